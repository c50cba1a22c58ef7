"""Where a running agent's own files are: beside its state, and in memory while the card is read-only."""

import errno
import os
import subprocess

import pytest

from agent import runtime


@pytest.fixture
def memory(tmp_path, monkeypatch):
    folder = tmp_path / "shm"
    folder.mkdir(mode=0o1777)
    monkeypatch.setattr(runtime, "MEMORY", folder)
    return folder


@pytest.fixture
def card(tmp_path):
    """A state directory on a file system of its own; `card("ro")` mounts it anew."""
    state = tmp_path / "card"
    state.mkdir(mode=0o700)

    def mount(*options: str) -> None:
        done = subprocess.run(("mount", *options, str(state)), capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no mount here: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", "size=64k,mode=0700", "grid-test")
    yield state, lambda how: mount("-o", f"remount,{how}")
    subprocess.run(("umount", str(state)), check=True)


def test_a_card_that_can_be_written_holds_everything(tmp_path, memory):
    place, lock = runtime.claim(tmp_path)
    assert place == tmp_path
    assert (tmp_path / "agent.pid").read_text() == f"{os.getpid()}\n"
    assert list(memory.iterdir()) == []
    with pytest.raises(OSError, match=rf"an agent \(pid {os.getpid()}\) already runs on"):
        runtime.claim(tmp_path)
    lock.close()
    runtime.claim(tmp_path)[1].close()


def test_a_read_only_card_is_stood_in_for_in_memory(card, memory):
    state, remount = card
    remount("ro")
    place, lock = runtime.claim(state)
    assert place.parent == memory
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "agent.pid").read_text() == f"{os.getpid()}\n"
    assert runtime.found(state) == place
    remount("rw")  # mended: still the same agent, and no second one beside it
    assert runtime.found(state) == place
    with pytest.raises(OSError, match="already runs on"):
        runtime.claim(state)
    lock.close()
    assert runtime.found(state) == state
    place, lock = runtime.claim(state)
    assert place == runtime.found(state) == state
    lock.close()


def test_nobody_runs_anywhere(tmp_path, memory):
    assert runtime.found(tmp_path / "nowhere") == tmp_path / "nowhere"
    runtime.places(tmp_path)[1].mkdir(mode=0o700)
    assert runtime.found(tmp_path) == tmp_path


def test_two_cards_have_two_places(tmp_path, memory):
    assert runtime.places(tmp_path / "a")[1] != runtime.places(tmp_path / "b")[1]
    assert runtime.places(tmp_path / "a")[1] == runtime.places(tmp_path / "a")[1]


@pytest.mark.parametrize("trick", ["open to all", "a link"])
def test_what_others_left_there_is_not_taken(card, memory, tmp_path, trick):
    state, remount = card
    stands_in = runtime.places(state)[1]
    if trick == "a link":
        stands_in.symlink_to(tmp_path)
    else:
        stands_in.mkdir()
        stands_in.chmod(0o777)
        (stands_in / "agent.sock").touch()
        (stands_in / "agent.pid").touch()
    assert runtime.found(state) == state
    runtime.claim(state)[1].close()
    remount("ro")
    with pytest.raises(OSError, match="is another user's: remove that"):
        runtime.claim(state)


def test_a_directory_that_may_not_be_written_is_an_error(tmp_path, memory, monkeypatch):
    """The owner is wrong, not the card: running from memory would hide that."""

    def refused(path, state):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(runtime, "_locked", refused)
    with pytest.raises(PermissionError):
        runtime.claim(tmp_path)
    assert list(memory.iterdir()) == []
