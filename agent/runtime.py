"""Where a running agent's lock, socket and broker files are: beside its state, or in memory while the card is read-only."""

import errno
import fcntl
import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import IO

PID, SOCKET = "agent.pid", "agent.sock"
MEMORY = Path("/dev/shm")  # a file system in memory on every Linux: man 7 shm_overview


def places(state: Path) -> tuple[Path, Path]:
    """The state directory, and the one in memory that stands in for it; the same for the agent and for who asks it."""
    return state, MEMORY / f"grid-{blake2b(bytes(state.absolute()), digest_size=6).hexdigest()}"


def found(state: Path) -> Path:
    """Where the agent of this state directory runs now, or would. A socket alone says nothing: a power cut leaves it."""
    beside, memory = places(state)
    return memory if _trusted(memory, state) and _held(memory / PID) else beside


def claim(state: Path) -> tuple[Path, IO[str]]:
    """The place to run in, and its pid file with our pid, locked while it is open. Raises OSError.

    Two agents on one state directory would fight, so that neither place may be another's.
    """
    beside, memory = places(state)
    if _trusted(memory, state) and (memory / PID).exists():
        _locked(memory / PID, state).close()
    try:
        return beside, _written(_locked(beside / PID, state))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOENT):  # no directory: it could not be made on the read-only card
            raise
    memory.mkdir(mode=0o700, exist_ok=True)
    if not _trusted(memory, state):
        raise OSError(f"{state} is read-only, and {memory}, which would stand in for it, is another user's: remove that")
    return memory, _written(_locked(memory / PID, state))


def _trusted(memory: Path, state: Path) -> bool:
    """Everybody may make a directory there: is this one the agent's own, or the asker's?"""
    try:
        about = memory.lstat()
    except OSError:
        return False
    owners = {os.geteuid(), *(place.stat().st_uid for place in (state,) if place.exists())}
    return stat.S_ISDIR(about.st_mode) and about.st_uid in owners and not about.st_mode & 0o077


def _locked(path: Path, state: Path) -> IO[str]:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise OSError(f"an agent (pid {pid}) already runs on {state}") from error
    return file


def _held(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _written(file: IO[str]) -> IO[str]:
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
