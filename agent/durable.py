"""Files on a card that can lose its power at any moment: the old or the new, never a mixture (man 2 rename, man 2 fsync)."""

import os
import stat
from pathlib import Path


def write(path: Path, data: bytes, mode: int | None = None, to_disk: bool = True) -> None:
    """Put a file in the place of the one before. Raises OSError; the one before is then whole.

    It is this user's alone from its first byte on, with `mode` others' too once it is whole. A leftover of an earlier try is no
    open door: O_EXCL and O_NOFOLLOW make the new one ours. FAT has no modes, and no journal: a power cut during the rename can
    lose this one name there, never another file. Without `to_disk` it may be the old one for some seconds after a power cut.
    """
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            if to_disk:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(new, path)
    except OSError:
        if new.is_file():
            new.unlink()  # a full card must not stay full of this
        raise
    if to_disk:
        sync(path.parent)


def update(path: Path, data: bytes, mode: int | None = None, to_disk: bool = True) -> bool:
    """`write`, unless it is like that already: a card wears. Returns whether it was written. Raises OSError."""
    try:
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and mode in (None, about.st_mode & 0o777) and path.read_bytes() == data:
            return False
    except OSError:
        pass  # it is not there, or cannot be read: made anew
    write(path, data, mode, to_disk)
    return True


def link(path: Path, target: str) -> bool:
    """Let this symbolic link lead there: at every moment to the old or the new. Returns whether it was changed. Raises OSError."""
    if path.is_symlink() and os.readlink(path) == target:
        return False
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.symlink(target, new)
    os.replace(new, path)
    sync(path.parent)
    return True


def replace(new: Path, path: Path) -> None:
    """Put a file that another has written in the place of the one before. Raises OSError."""
    sync(new)
    os.replace(new, path)
    sync(path.parent)


def remove(path: Path) -> None:
    """So that it does not come back after a power cut. Raises OSError."""
    path.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """What a file holds, or which names a directory has, is on the disk from here on. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
