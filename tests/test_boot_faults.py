"""A boot whose power is cut anywhere, and whose partitions are full, read-only or forgetful; what is written on the first one."""

import contextlib
import dataclasses
import errno
import os
import types
from collections.abc import Mapping
from pathlib import Path

import pytest
from cards import BARN, KEY, MILL, WIFI, WRONG, Card, Os, PowerCut, broken, everything, started, under

from agent import boot as booting
from agent import card, durable
from agent import root as composition


def test_the_status_is_written_once_a_change(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    before = (card.places.boot / "grid-status.txt").stat()
    for _ in range(3):
        card.boot()
    after = (card.places.boot / "grid-status.txt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert b"\n" not in (card.places.boot / "grid-status.txt").read_bytes().replace(b"\r\n", b"")
    card.put(**{"grid.toml": BARN})
    card.boot()
    assert "Node: barn" in card.status


MORE = WIFI + '[[wifi]]\nssid = "Garden"\npassword = "another one"\n'


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize(
    ("before", "after", "ids"),
    [
        ({}, {"grid.toml": MILL, "wifi.toml": WIFI, "ssh.pub": KEY}, {"mill"}),
        ({"grid.toml": MILL, "wifi.toml": WIFI}, {"grid.toml": BARN, "wifi.toml": MORE, "ssh.pub": KEY}, {"mill", "barn"}),
        ({"grid.toml": MILL, "wifi.toml": WIFI}, {"grid.toml": WRONG, "wifi.toml": "x"}, {"mill"}),
        ({}, {"grid.toml": WRONG}, {"node-c3d4"}),
    ],
)
def test_the_power_is_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Mapping[str, str], after: Mapping[str, str], ids: set[str], part: int
) -> None:
    """At every moment the last settings or the new ones are whole, the user's files untouched; the next boot mends all."""
    with monkeypatch.context() as patch:
        system = Os()
        whole = made(tmp_path / "whole", before, after, patch, system)
    assert system.calls > 8
    for last in range(1 + part, system.calls + 1, 3):
        with monkeypatch.context() as patch:
            one = made(tmp_path / str(last), before, after, patch, Os(last))
        assert {name: (one.places.boot / name).read_text() for name in after} == dict(after)
        link = one.places.data / "boot/config"
        if link.is_symlink():
            assert composition.load(link / "grid.toml").node.id in ids
        else:
            assert not before
        one.boot()
        assert everything(one) == everything(whole), last


def made(folder: Path, before: Mapping[str, str], after: Mapping[str, str], patch: pytest.MonkeyPatch, system: Os) -> Card:
    one = Card(folder)
    if before:
        one.put(**before)
        one.boot()
    one.put(**after)
    under(patch, system)
    with contextlib.suppress(PowerCut):
        one.boot()
    return one


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_boot_partition_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.put(**{"grid.toml": WRONG})
    under(monkeypatch, broken(card.places.boot, number))
    before = card.status
    problems = card.boot().problems
    assert problems[-1] == f"grid-status.txt cannot be written: {os.strerror(number)}"
    assert problems[0].startswith("grid.toml:1: node.rated_w: missing")
    assert (card.places.run / "problems").read_text().splitlines() == ["From the boot partition, at the last start:", *problems]
    assert (card.status, card.id) == (before, "mill")


def test_a_full_boot_partition_keeps_no_half_written_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = started(tmp_path, grid_toml=MILL)
    before = sorted(card.places.boot.iterdir())
    card.put(**{"grid.toml": BARN})
    room = [5]

    def fault(name: str, args: tuple[object, ...]) -> OSError | None:
        if name == "write" and b"what became" in bytes(args[1]):  # type: ignore[call-overload]
            room[0] = 0
            return OSError(errno.ENOSPC, "No space left on device")
        return None

    under(monkeypatch, Os(fault=fault))
    assert card.boot().problems == ["grid-status.txt cannot be written: No space left on device"]
    assert room == [0]
    assert sorted(card.places.boot.iterdir()) == before
    assert card.id == "barn"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_data_partition_that_cannot_be_written_leaves_it_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.put(**{"grid.toml": BARN, "wifi.toml": WIFI})
    under(monkeypatch, broken(card.places.data, number))
    problems = card.boot().problems
    assert card.id == "barn"
    assert os.readlink(card.root("etc/grid")) == str(card.places.run / "config")
    assert problems == [f"wifi.toml cannot be kept on the card: {os.strerror(number)}"]
    assert card.root("var/lib/iwd/Oak House.psk").exists()
    monkeypatch.undo()
    card.boot()
    assert os.readlink(card.root("etc/grid")) == str(card.places.data / "boot/config")


def test_a_data_partition_that_gives_back_something_else_leaves_it_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Card(tmp_path, grid_toml=MILL)
    update = durable.update

    def garble(path: Path, data: bytes, mode: int | None = None) -> bool:
        return update(path, b"\0" * len(data) if path.is_relative_to(one.places.data) else data, mode)

    monkeypatch.setattr(durable, "update", garble)
    assert one.boot().problems == []
    assert (one.id, os.readlink(one.root("etc/grid"))) == ("mill", str(one.places.run / "config"))


def test_a_boot_partition_that_reads_otherwise_the_second_time_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(tmp_path, grid_toml=BARN)
    one.put(**{"grid.toml": MILL})
    monkeypatch.setattr(booting, "read", lambda path: b"\0" * 40)
    problems = one.boot().problems
    assert (one.id, "not TOML" in problems[0]) == ("barn", True)
    assert "Settings: grid.toml could not be copied. The last good ones stay in force" in one.status


def test_a_part_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": MILL, "wifi.toml": WIFI, "ssh.pub": KEY})
    under(monkeypatch, broken(card.root("var"), errno.ENOSPC))
    assert card.boot().problems == [f"{card.root('var/lib/iwd')}: No space left on device"]
    assert (card.places.run / "authorized_keys").exists()


def test_nothing_can_be_written_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": MILL})
    under(monkeypatch, broken(tmp_path, errno.EROFS))
    with pytest.raises(OSError, match="Read-only"):
        card.boot()


# a partition that is mounted read-only


def mounts(folder: Path, script: str = "") -> tuple[Path, Path]:
    """A mount program that writes down what it is asked, and where."""
    program, log = folder / "mount", folder / "mount.log"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n{script}')
    program.chmod(0o755)
    return program, log


class ReadOnly(Os):
    def statvfs(self, path: Path) -> types.SimpleNamespace:
        return types.SimpleNamespace(f_flag=os.ST_RDONLY)


def test_a_read_only_partition_is_opened_for_the_moment_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Card(tmp_path / "card")
    one.put(**{"grid.toml": MILL})
    program, log = mounts(tmp_path)
    monkeypatch.setattr(card, "os", ReadOnly())
    for _ in range(3):
        assert booting.boot(dataclasses.replace(one.places, mount=str(program))).problems == []
    assert log.read_text().splitlines() == [f"-o remount,{how} {one.places.boot}" for how in ("rw", "ro")]
    assert "Node: mill" in one.status


def test_a_partition_is_closed_again_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, log = mounts(tmp_path)
    monkeypatch.setattr(card, "os", ReadOnly())
    with pytest.raises(OSError, match="full"), card.writable(tmp_path, str(program)):
        raise OSError(errno.ENOSPC, "full")
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["remount,rw", "remount,ro"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('echo "mount: cannot remount /dev/mmcblk0p1 read-write, is write-protected." >&2; exit 32', "is write-protected."),
        ("exit 1", "remount,rw"),
        ('case "$*" in *ro*) echo "is busy" >&2; exit 32;; esac', "is busy"),
    ],
)
def test_a_partition_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    one = Card(tmp_path / "card")
    one.put(**{"grid.toml": MILL})
    monkeypatch.setattr(card, "os", ReadOnly())
    (problem,) = booting.boot(dataclasses.replace(one.places, mount=str(mounts(tmp_path, script)[0]))).problems
    assert problem.startswith("grid-status.txt cannot be written: mount -o remount,")
    assert says in problem
    assert one.id == "mill"


def test_a_mount_that_hangs_does_not_stop_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "os", ReadOnly())
    monkeypatch.setattr(card, "MOUNT_S", 0.2)
    with pytest.raises(OSError, match="takes longer"), card.writable(tmp_path, str(mounts(tmp_path, "sleep 5")[0])):
        pass
