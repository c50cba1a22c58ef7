"""Files of a card that can lose its power at any moment: the old or the new; and a partition opened for writing only then."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOUNT_S = 20.0  # a remount waits for what is being written


def write(path: Path, data: bytes, mode: int | None = None) -> bool:
    """Replace a file whole, unless it is like that already. Returns whether it was written. Raises OSError.

    `mode`: its access rights; None on FAT, which has none.
    Write new, fsync, rename, fsync the directory: man 2 rename, man 2 fsync. FAT has no journal: a power cut during the rename
    can lose this one name there, never another file.
    """
    try:
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and mode in (None, about.st_mode & 0o777) and path.read_bytes() == data:
            return False
    except OSError:
        pass  # it is not there, or cannot be read: made anew
    new = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)  # a full card must not stay full of this
        raise
    _sync(path.parent)
    return True


def link(path: Path, target: str) -> bool:
    """Let this symbolic link lead there: at every moment to the old or the new. Returns whether it was changed. Raises OSError."""
    if path.is_symlink() and os.readlink(path) == target:
        return False
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.symlink(target, new)
    os.replace(new, path)
    _sync(path.parent)
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writable(folder: Path, mount: str = "mount") -> Iterator[None]:
    """A partition that is mounted read-only, writable for as long as this lasts. Raises OSError; it is read-only again anyway."""
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield
        return
    _remount(folder, "rw", mount)
    try:
        yield
    finally:
        os.sync()
        _remount(folder, "ro", mount)


def _remount(folder: Path, how: str, mount: str) -> None:
    try:
        done = subprocess.run(
            [mount, "-o", f"remount,{how}", str(folder)], capture_output=True, text=True, timeout=MOUNT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"mount -o remount,{how} {folder} takes longer than {MOUNT_S:.0f} s") from error
    if done.returncode != 0:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise OSError(f"mount -o remount,{how} {folder}: {why}")
