"""A partition that is opened for writing only at that moment."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOUNT_S = 20.0  # a remount waits for what is being written


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
