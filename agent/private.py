"""Files that only the node's own user may read: so from their first byte, whole or not there, safe from a power cut."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

PENDING = "pending"  # what is about to be written, as a whole


def folder(path: Path) -> None:
    """Make this directory 0700, its parents as usual; one that is there is closed to others. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write(path: Path, data: bytes) -> None:
    """Put a file 0600 in the place of the one before: write, fsync, rename, fsync of the directory. Raises OSError.

    A power cut leaves the old or the new (man 2 rename). A leftover of an earlier try is no open door: O_EXCL and
    O_NOFOLLOW make the new one ours alone.
    """
    new = path.with_name(path.name + ".tmp")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync(path.parent)


def write_all(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put several files that belong together: all of them, or none. Raises OSError.

    They are first written down as one; what a power cut leaves half done `finish` does to its end.
    """
    folder(directory)
    write(directory / PENDING, msgspec.json.encode({name: base64.b64encode(data).decode() for name, data in files.items()}))
    finish(directory)


def finish(directory: Path) -> None:
    """Do what a power cut left half done. Raises OSError, and ValueError when that cannot be read."""
    try:
        rows = msgspec.json.decode((directory / PENDING).read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return
    for name, text in rows.items():
        path = directory / name
        folder(path.parent)
        write(path, base64.b64decode(text))
    remove(directory / PENDING)


def remove(path: Path) -> None:
    """So that it does not come back after a power cut. Raises OSError."""
    path.unlink(missing_ok=True)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make renames in this directory durable: man 2 fsync, notes on directories."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Root works here as the user whose directory this is: the service can read what comes of it, and no link leads root astray.

    Of a directory that is not there yet, the owner of the nearest one above it.
    """
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    about = place.stat()
    if os.geteuid() != 0 or about.st_uid == 0:
        yield
        return
    os.setegid(about.st_gid)
    os.seteuid(about.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
