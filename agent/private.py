"""Directories of files that only the node's own user may read; files that belong together, all of them or none."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent import durable

PENDING = "pending"  # what is about to be written, as a whole


def folder(path: Path) -> None:
    """Make this directory 0700, its parents as usual; one that is there is closed to others. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_all(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put several files that belong together: all of them, or none. Raises OSError.

    They are first written down as one; what a power cut leaves half done `finish` does to its end.
    """
    folder(directory)
    durable.write(directory / PENDING, msgspec.json.encode({name: base64.b64encode(data).decode() for name, data in files.items()}))
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
        durable.write(path, base64.b64decode(text))
    durable.remove(directory / PENDING)


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
