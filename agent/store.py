"""Small files that survive a power cut: the old or the new, never a mixture, and a damaged one never stops the start."""

import errno
import os
from hashlib import blake2b
from pathlib import Path

import msgspec

from agent import durable

KEEP_BAD = 3  # damaged files kept for a look; a card that rots must not fill up with them


class File(msgspec.Struct, frozen=True):
    """One file: its data as JSON, and a hash over those bytes."""

    check: str
    data: msgspec.Raw


def _check(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


class Store:
    """Named JSON documents in one directory, 0600."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._owed: dict[str, bytes] = {}  # not written yet: the disk was full or read-only

    def open(self) -> None:
        """Make the directory. Raises OSError when that cannot be; on a read-only card each `save` will say so."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise

    def load(self) -> tuple[dict[str, bytes], list[str]]:
        """Everything readable by name, and a line for each file that had to be set aside."""
        kept: dict[str, bytes] = {}
        troubles: list[str] = []
        for path in sorted(self.directory.glob("*.json")):
            try:
                file = msgspec.json.decode(path.read_bytes(), type=File)
                if _check(bytes(file.data)) != file.check:
                    raise ValueError("its checksum is wrong")
                kept[path.stem] = bytes(file.data)
            except (OSError, ValueError, RecursionError) as error:
                troubles.append(self._set_aside(path, error))
        return kept, troubles

    def save(self, name: str, data: bytes) -> str:
        """Write one document durably, and those before it that could not be. Returns "" or what went wrong first.

        What cannot be written leaves the one before whole and is tried again with the next.
        """
        self._owed[name] = data
        troubles = [self._write(owed, self._owed[owed]) for owed in sorted(self._owed)]
        return next(filter(None, troubles), "")

    def _write(self, name: str, data: bytes) -> str:
        path = self.directory / f"{name}.json"
        try:
            durable.write(path, msgspec.json.encode(File(_check(data), msgspec.Raw(data))))
        except OSError as error:
            return f"cannot keep {name}: {error.strerror}: {path}. Going on from memory; a restart may forget the latest change"
        del self._owed[name]
        return ""

    def _set_aside(self, path: Path, error: Exception) -> str:
        why = str(error) or type(error).__name__
        for number in range(1, KEEP_BAD + 1):
            aside = path.with_suffix(f".bad-{number}")
            if number == KEEP_BAD or not aside.exists():
                break
        try:
            os.replace(path, aside)
        except OSError as cannot:
            return f"{path.name} is unreadable ({why}) and cannot be set aside ({cannot.strerror}); going on without it"
        return f"{path.name} was damaged ({why}); set aside as {aside.name}, going on without it"
