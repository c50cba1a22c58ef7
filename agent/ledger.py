"""The ledger: every settled revision in SQLite, a verified copy beside it, and never a start that fails because of either."""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from agent import durable
from agent.accounts import Settled
from agent.events import Event, Warned

KEEP_S = 400 * 86_400  # a year's bill and the time to dispute it
KEEP_BAD = 3  # damaged databases kept for a look
OWED = 1000  # revisions that wait in memory for a disk that takes them
COPY_S = 86_400.0
SCHEMA = 1

# What says that the file itself is damaged (https://sqlite.org/rescode.html); all else, as a full disk, passes.
DAMAGE = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    }
)
TABLES = f"""
CREATE TABLE IF NOT EXISTS settled (
    ends INTEGER, zone TEXT, slot_s INTEGER, revision INTEGER, booked INTEGER, digest TEXT, body BLOB,
    PRIMARY KEY (ends, zone, slot_s, revision)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS corrections ON settled (booked) WHERE booked > ends;
PRAGMA user_version = {SCHEMA};
"""


class DamageError(Exception):
    """This file is no whole database of ours."""


class Ledger:
    """The revisions that one node settled. Nothing raises: trouble is told as a text, "" when there is none.

    `open`, `write`, `recent` and `close` belong to one thread; `copy` and the function `read` may run anywhere beside them.
    """

    def __init__(self, directory: Path) -> None:
        self.path, self.spare = directory / "ledger.db", directory / "ledger-copy.db"
        self._db: sqlite3.Connection | None = None
        self._owed: list[Settled] = []

    def open(self) -> str:
        """Check the database whole; a damaged one is set aside and the last verified copy taken up."""
        try:
            try:
                self._db = self._connect()
                return ""
            except DamageError as error:
                return self._take_up_copy(str(error))
        except (OSError, sqlite3.Error) as error:
            return f"cannot open the ledger: {error}: {self.path}. Prices go on; nothing settled is kept on disk"

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def write(self, rows: Sequence[Settled], unix_s: float) -> str:
        """Keep these revisions, and those before them that could not be, in one transaction; let go of what is too old."""
        self._owed += rows
        trouble = self.open() if self._db is None else ""
        if self._db is None:
            return trouble + self._shorten()
        try:
            with self._db:  # commits, or rolls back
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?, ?, ?, ?)", map(_row, self._owed))
                self._db.execute("DELETE FROM settled WHERE ends < ?", (int(unix_s) - KEEP_S,))
        except sqlite3.Error as error:
            if _primary(error) in DAMAGE:
                self.close()
            return f"cannot keep what was settled: {error}: {self.path}. It waits in memory and is tried again" + self._shorten()
        self._owed.clear()
        return trouble

    def recent(self, span_s: float) -> tuple[list[Settled], str]:
        """All revisions of the newest slots, those of this span, in order, older revisions first.

        Reckoned from the newest row: at a boot the wall clock may still say 1970.
        """
        if self._db is None:
            return [], ""
        newest = "ends > (SELECT max(ends) FROM settled) - ? ORDER BY ends, zone, slot_s, revision"
        return _select(self._db, newest, (int(span_s),))

    def copy(self) -> str:
        """Make the verified copy anew; takes seconds for a year of a large network, so once a day and on a thread of its own."""
        new = self.spare.with_suffix(".new")
        try:
            _touch(new, os.O_TRUNC)
            with closing(_plain(self.path)) as source, closing(sqlite3.connect(new)) as target:
                source.backup(target, pages=256, sleep=0.0)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, no log beside it
                _verify(target)
            durable.replace(new, self.spare)
        except (OSError, sqlite3.Error, DamageError) as error:
            return f"cannot copy the ledger: {error}: {self.spare}. The copy before stays"
        return ""

    def _connect(self) -> sqlite3.Connection:
        spared = self.spare.exists()
        if spared and not self.path.exists():
            raise DamageError("it is gone")
        _touch(self.path)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=2.0)
        try:
            _verify(db)
            if spared and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise DamageError("it is empty")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise sqlite3.NotSupportedError(f"a later version of this program made it (form {version})")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # one commit a slot: a power cut right after it must not take it back
            if version < SCHEMA:
                db.executescript(TABLES)
        except sqlite3.Error as error:
            db.close()
            if _primary(error) in DAMAGE:
                raise DamageError(str(error)) from error
            raise
        except DamageError:
            db.close()
            raise
        return db

    def _take_up_copy(self, why: str) -> str:
        text = f"{self.path.name} was damaged ({why}); set aside as {_set_aside(self.path)}, "
        if self.spare.exists():
            new = self.path.with_suffix(".new")
            _touch(new, os.O_TRUNC)
            try:
                with closing(sqlite3.connect(self.spare)) as spare, closing(sqlite3.connect(new)) as db:
                    _verify(spare)
                    spare.backup(db)
                durable.replace(new, self.path)
                self._db = self._connect()
                return text + "going on with the last verified copy"
            except DamageError as error:
                text += f"its copy, too ({error}), as {_set_aside(self.spare)}, "
        self._db = self._connect()
        return text + "going on with an empty one: the last two days come back from the records"

    def _shorten(self) -> str:
        lost = len(self._owed) - OWED
        del self._owed[: max(0, lost)]
        return f"; {lost} had to be given up" if lost > 0 else ""


class Copies:
    """Makes the verified copy once a day, on a thread of its own; what goes wrong is put into the agent's queue."""

    def __init__(self, ledger: Ledger, put: Callable[[Event], None]) -> None:
        self._ledger, self._put = ledger, put
        self._stop = threading.Event()

    def open(self) -> None:
        threading.Thread(target=self._work, name="ledger", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(COPY_S):
            self._put(Warned("ledger-copy", self._ledger.copy()))


def _set_aside(path: Path) -> str:
    """Move a database away, its log with it, which must not be applied to another. Raises OSError."""
    places = [path.with_suffix(f".bad-{number}") for number in range(1, KEEP_BAD + 1)]
    aside = next((place for place in places if not place.exists()), places[-1])
    for end in ("", "-wal", "-shm"):
        if (file := path.with_name(path.name + end)).exists():
            os.replace(file, aside.with_name(aside.name + end))
    return aside.name


def read(directory: Path, from_s: float, to_s: float) -> tuple[list[Settled], str]:
    """All revisions of slots that ended, or were booked, after the one and not after the other moment; and what is wrong.

    For another process than the agent: nothing is written.
    """
    path = directory / "ledger.db"
    try:
        with closing(_plain(path)) as db:
            span = (int(from_s), int(to_s))
            where = "ends > ? AND ends <= ? OR booked > ends AND booked > ? AND booked <= ? ORDER BY ends, zone, slot_s, revision"
            return _select(db, where, span * 2)
    except sqlite3.Error as error:
        return [], f"cannot read the ledger: {error}: {path}"


def _select(db: sqlite3.Connection, where: str, values: tuple[int, ...]) -> tuple[list[Settled], str]:
    rows: list[Settled] = []
    bad = 0
    try:
        for (body,) in db.execute(f"SELECT body FROM settled WHERE {where}", values):
            try:
                rows.append(msgspec.json.decode(zlib.decompress(body), type=Settled))
            except (zlib.error, ValueError, RecursionError, TypeError):
                bad += 1
    except sqlite3.Error as error:
        return rows, f"cannot read the ledger further: {error}"
    return rows, f"{bad} revisions in the ledger are damaged and left out" if bad else ""


def _row(settled: Settled) -> tuple[int, str, int, int, int, str, bytes]:
    ends, booked = ((slot + 1) * settled.slot_s for slot in (settled.slot, settled.booked))
    body = zlib.compress(msgspec.json.encode(settled))
    return ends, settled.zone, settled.slot_s, settled.revision, booked, settled.digest, body


def _plain(path: Path) -> sqlite3.Connection:
    """A second connection that only reads, and makes no file."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)


def _verify(db: sqlite3.Connection) -> None:
    """Raises DamageError unless the whole file is well formed."""
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if _primary(error) in DAMAGE:
            raise DamageError(str(error)) from error
        raise
    if found != ("ok",):
        raise DamageError(str(found and found[0]))


def _primary(error: sqlite3.Error) -> int:
    """The result code; of what has no extended code in DAMAGE, the primary one (its low byte)."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code if code in DAMAGE else code & 0xFF


def _touch(path: Path, how: int = 0) -> None:
    """Make the file, for nobody else to read; SQLite gives its logs the same mode."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600))
