"""Files that a power cut leaves as they were or as they are to be: what is written, for whom, and what stands in the way."""

import errno
import os
import stat
from pathlib import Path

import pytest
from cards import Os, PowerCut

from agent import durable


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_written_only_when_it_differs(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x"
    old = os.umask(0o077)
    try:
        assert durable.update(path, b"one", mode)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not durable.update(path, b"one", mode)
    assert durable.update(path, b"two", mode)
    assert not durable.update(path, b"two")
    path.chmod(0o666)
    assert durable.update(path, b"two", mode)
    assert [name.name for name in tmp_path.iterdir()] == ["x"]


def test_what_is_in_the_way_is_no_open_door(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "x"
    other.write_text("precious")
    path.symlink_to(other)
    assert durable.update(path, b"precious", 0o644)
    assert not path.is_symlink()
    (tmp_path / "y.new").symlink_to(other)
    durable.write(tmp_path / "y", b"mine")
    assert ((tmp_path / "y").read_bytes(), other.read_text()) == (b"mine", "precious")
    (tmp_path / "y.new").touch(0o666)
    with (tmp_path / "y.new").open("rb") as whoever_waits_there:
        durable.write(tmp_path / "y", b"a secret")
        assert whoever_waits_there.read() == b""
    assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == 0o600
    (tmp_path / "y.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.write(tmp_path / "y", b"another")
    assert (tmp_path / "y").read_bytes() == b"a secret"


def test_a_link_is_made_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert durable.link(path, "one")
    assert not durable.link(path, "one")
    (tmp_path / "x.new").write_text("left over")
    assert durable.link(path, "two")
    assert os.readlink(path) == "two"


# the power is cut


class Seen(Os):
    """What is open for reading is named, too: a directory's fsync is not a file's."""

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self.done.append("open" if flags & os.O_WRONLY else f"open {Path(path).name}")
        return os.open(path, flags, mode)


@pytest.mark.parametrize(
    ("to_disk", "calls"),
    [
        (True, ["open", "fchmod", "write", "fsync", "replace", "open place", "fsync"]),
        (False, ["open", "fchmod", "write", "replace"]),
    ],
)
def test_its_bytes_are_on_the_disk_before_its_name_and_that_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_disk: bool, calls: list[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(durable, "os", system := Seen())
    durable.write(place / "x", b"one", 0o644, to_disk)
    assert system.done == calls
    assert not durable.update(place / "x", b"one", 0o644, to_disk)
    assert system.done == calls
    durable.update(place / "x", b"two", 0o644, to_disk)
    assert system.done == calls * 2


def test_links_files_of_others_and_what_is_removed_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "made").write_bytes(b"by another")
    monkeypatch.setattr(durable, "os", system := Seen())
    durable.link(place / "link", "there")
    assert system.done == ["symlink", "replace", "open place", "fsync"]
    system.done.clear()
    durable.replace(place / "made", place / "x")
    assert system.done == ["open made", "fsync", "replace", "open place", "fsync"]
    assert (place / "x").read_bytes() == b"by another"
    system.done.clear()
    durable.remove(place / "x")
    durable.remove(place / "x")
    assert system.done == ["open place", "fsync"] * 2
    assert os.listdir(place) == ["link"]


def test_a_power_cut_at_any_call_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for last in range(1, 7):
        path = tmp_path / str(last)
        durable.write(path, b"the old one", 0o640)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "os", Os(last))
            with pytest.raises(PowerCut):
                durable.write(path, b"the new one", 0o640)
        assert path.read_bytes() == (b"the new one" if last > 5 else b"the old one"), last
        durable.write(path, b"the next one", 0o640)
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"the next one", 0o640)
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("call", ["open", "fchmod", "write", "fsync", "replace"])
def test_a_full_card_keeps_the_old_and_nothing_of_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    durable.write(tmp_path / "x", b"the old one")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(durable, "os", Os(fault=lambda name, _: full if name == call else None))
    with pytest.raises(OSError, match="No space"):
        durable.write(tmp_path / "x", b"the new one", 0o644)
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"the old one"
