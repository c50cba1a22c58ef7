"""A card that makes its closed network or takes its bundle, and fails: full, cut off anywhere, forgetful."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from cards import FIRST, MILL, OAK, Card, Os, PowerCut, broken, carried, member, started, trust, under

from agent import authority, bundle
from agent.boot_parts import LARGEST
from agent.seal import Member


@pytest.fixture
def first(tmp_path: Path) -> Card:
    return started(tmp_path / "first", grid_toml=FIRST)


def test_a_boot_partition_that_takes_no_bundle_gets_it_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Card(tmp_path, grid_toml=FIRST)
    with monkeypatch.context() as patch:
        under(patch, broken(first.places.boot, errno.ENOSPC))
        problems = first.boot().problems
    assert problems[:2] == [f"{id_}.bundle cannot be written: No space left on device" for id_ in ("oak", "barn")]
    assert list(first.places.boot.glob("*.bundle")) == []
    assert first.boot().problems == []
    assert sorted(path.name for path in first.places.boot.glob("*.bundle")) == ["barn.bundle", "oak.bundle"]


def test_a_bundle_that_cannot_be_removed_is_told(first: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oak = carried(first, tmp_path / "oak")

    def refuse(folder: Path, mount: str) -> contextlib.AbstractContextManager[None]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr("agent.boot_trust.card.writable", refuse)
        problems = oak.boot().problems
    assert problems[0] == "oak.bundle was taken and cannot be removed (Read-only file system). Delete it: it is this node's key"
    assert member(oak, "oak").id == "oak"


@pytest.mark.parametrize("part", range(4))
def test_the_power_is_cut_anywhere_while_the_network_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """There is one authority, whatever bundles lie there are its own, and in the end there is a good one."""
    calls = cut(tmp_path / "whole", monkeypatch, Os())[1]
    assert calls > 30
    for last in range(1 + part, calls + 1, 4):
        first, _ = cut(tmp_path / str(last), monkeypatch, Os(last))
        ca = trust(first, "mill") / "ca.pem"
        before = ca.read_bytes() if ca.exists() else b""
        assert first.boot().problems == [], last
        assert before in (b"", ca.read_bytes())
        assert not list(first.places.boot.glob("*.new"))
        there = bundle.read((first.places.boot / "oak.bundle").read_bytes())
        assert there.key is not None
        assert Member(there.ca, there.cert, there.key).ca == member(first, "mill").ca, last


def cut(folder: Path, monkeypatch: pytest.MonkeyPatch, system: Os) -> tuple[Card, int]:
    first = started(folder, grid_toml=MILL)
    first.put(**{"grid.toml": FIRST.replace(', "barn"', "")})
    with monkeypatch.context() as patch, contextlib.suppress(PowerCut):
        under(patch, system)
        patch.setattr("agent.boot_trust.os", system)
        first.boot()
    return first, system.calls


@pytest.mark.parametrize("part", range(2))
def test_the_power_is_cut_anywhere_while_a_bundle_is_taken(
    first: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    data = (first.places.boot / "oak.bundle").read_bytes()
    for last in range(1 + part, 80, 2):
        oak = started(tmp_path / str(last), grid_toml=OAK)
        oak.put(**{"oak.bundle": data})
        system = Os(last)
        with monkeypatch.context() as patch, contextlib.suppress(PowerCut):
            under(patch, system)
            oak.boot()
        assert oak.boot().problems == [], last
        assert member(oak, "oak").ca == member(first, "mill").ca
        assert not (oak.places.boot / "oak.bundle").exists()
        if system.calls < last:
            break
    else:
        pytest.fail("more calls than are tried")


@pytest.mark.parametrize("data", [b"", b"half of a bundle", None])
def test_a_bundle_that_a_power_cut_left_damaged_is_made_again(first: Card, data: bytes | None) -> None:
    """FAT can lose what was written last; the word for that was not written yet."""
    path = first.places.boot / "oak.bundle"
    path.write_bytes((first.places.boot / "barn.bundle").read_bytes() if data is None else data)
    (first.places.data / "boot/admit/oak").write_text("begun")
    assert first.boot().problems == []
    assert bundle.read(path.read_bytes()).id == "oak"
    assert len(authority.issued(trust(first, "mill"), "oak")) == 2


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\0\0"])
def test_a_word_that_the_card_lost_is_no_reason_to_admit_again(first: Card, data: bytes) -> None:
    (first.places.boot / "oak.bundle").unlink()  # it is on its card by now
    (first.places.data / "boot/admit/oak").write_bytes(data)
    assert first.boot().problems == []
    assert not (first.places.boot / "oak.bundle").exists()
    assert len(authority.issued(trust(first, "mill"), "oak")) == 1


def test_a_bundle_that_cannot_be_read_stops_nothing_else(tmp_path: Path) -> None:
    first = Card(tmp_path, grid_toml=FIRST)
    first.put(**{"film.bundle": b"x" * (LARGEST + 1)})
    assert first.boot().problems == ["film.bundle cannot be read: larger than any settings are"]
    assert member(first, "mill").network == "Mill Lane"
    assert (first.places.boot / "oak.bundle").exists()
