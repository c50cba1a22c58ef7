"""The ledger through damaged files, power cuts and full disks: what can be kept is kept, and nothing ever raises."""

import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from disks import fill
from ledgers import END, EVER, K, again, row

from agent.accounts import Settled
from agent.ledger import KEEP_BAD, OWED, Ledger, read

ROOT = Path(__file__).resolve().parent.parent


# damage


def damage(path, how):
    whole = path.read_bytes()
    match how:
        case "NUL-filled":
            path.write_bytes(b"\0" * len(whole))
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "cut within a page":
            path.write_bytes(whole[:5000])
        case "rubbish":
            path.write_bytes(b"rubbish" * 1000)
        case "a page of NUL":
            path.write_bytes(whole[:4096] + b"\0" * 4096 + whole[8192:])
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()


DAMAGES = ["NUL-filled", "truncated", "cut within a page", "rubbish", "a page of NUL", "empty", "gone"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_database_makes_room_for_the_last_verified_copy(ledger, tmp_path, how):
    rows = [row(n, nodes=40) for n in range(100)]
    ledger.write(rows, END)
    assert ledger.copy() == ""
    ledger.write([row(200)], END)
    ledger.close()
    damage(ledger.path, how)
    trouble, found = again(tmp_path)
    assert found == rows
    assert trouble.startswith("ledger.db was damaged (")
    assert trouble.endswith("), set aside as ledger.bad-1, going on with the last verified copy".replace("),", ");"))
    assert again(tmp_path) == ("", rows)
    assert (tmp_path / "ledger.bad-1").exists() == (how != "gone")


@pytest.mark.parametrize("how", [how for how in DAMAGES if how not in ("empty", "gone")])
def test_without_a_copy_or_with_a_damaged_one_it_begins_anew(ledger, tmp_path, how):
    ledger.write([row(n, nodes=40) for n in range(100)], END)
    ledger.close()
    damage(ledger.path, how)
    trouble, found = again(tmp_path)
    assert found == []
    assert trouble.endswith("set aside as ledger.bad-1, going on with an empty one: the last two days come back from the records")
    ledger.open()
    ledger.write([row(n, nodes=40) for n in range(100)], END)
    assert ledger.copy() == ""
    ledger.close()
    damage(ledger.path, how)
    damage(ledger.spare, how)
    trouble, found = again(tmp_path)
    assert found == []
    assert "its copy, too (" in trouble
    assert (tmp_path / "ledger-copy.bad-1").exists()
    assert again(tmp_path) == ("", [])


@pytest.mark.parametrize("how", ["empty", "gone"])
def test_a_first_start_is_no_damage(tmp_path, how):
    if how == "empty":
        (tmp_path / "ledger.db").touch()
    assert again(tmp_path) == ("", [])


def test_a_damaged_log_costs_at_most_what_stood_in_it(tmp_path):
    one = Ledger(tmp_path)
    one.open()
    one.write([row(0)], END)
    one.copy()
    with closing(sqlite3.connect(one.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    one.write([row(1)], END)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}  # as a power cut would leave them
    one.close()
    assert len(files["ledger.db-wal"]) > 4096
    for wal in (b"\0" * len(files["ledger.db-wal"]), files["ledger.db-wal"][:3000], b"rubbish" * 999):
        for name, data in (files | {"ledger.db-wal": wal}).items():
            (tmp_path / name).write_bytes(data)
        assert again(tmp_path) == ("", [row(0)])


def test_one_damaged_row_is_left_out_and_told(ledger, tmp_path):
    ledger.write([row(0), row(1), row(2), row(3)], END)
    with closing(sqlite3.connect(ledger.path)) as db, db:
        for slot, body in ((K, b"\0\0"), (K + 1, zlib.compress(b"[]")), (K + 2, None)):
            db.execute("UPDATE settled SET body = ? WHERE ends = ?", (body, (slot + 1) * 900))
    told = "3 revisions in the ledger are damaged and left out"
    assert ledger.recent(EVER) == ([row(3)], told)
    assert read(tmp_path, 0, END + 10**6) == ([row(3)], told)


def test_damage_while_it_runs_is_told_and_mended_at_the_next_slot(ledger, tmp_path):
    rows = [row(n, nodes=40) for n in range(100)]
    ledger.write(rows, END)
    ledger.copy()
    ledger.close()
    assert ledger.open() == ""
    with closing(sqlite3.connect(ledger.path)) as other, other:  # makes the first connection forget the pages it has read
        other.execute("DELETE FROM settled WHERE ends = 0")
        other.execute("PRAGMA user_version = 1")
    with closing(sqlite3.connect(ledger.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:4096] + b"\0" * (len(whole) - 4096))
    assert "cannot read the ledger further: database disk image is malformed" in ledger.recent(EVER)[1]
    assert "malformed" in ledger.write([row(200)], END)
    assert "last verified copy" in ledger.write([row(201)], END)
    assert ledger.recent(EVER) == ([*rows, row(200), row(201)], "")


def test_a_card_that_rots_does_not_fill_up(ledger, tmp_path):
    for _ in range(KEEP_BAD + 3):
        ledger.close()
        damage(ledger.path, "rubbish")
        assert ledger.open()
    assert len(list(tmp_path.glob("ledger.bad-*"))) == KEEP_BAD


def test_a_copy_of_a_damaged_database_does_not_take_the_place_of_a_good_one(ledger):
    ledger.write([row(n, nodes=40) for n in range(100)], END)
    assert ledger.copy() == ""
    good = ledger.spare.read_bytes()
    ledger.close()
    damage(ledger.path, "a page of NUL")
    assert ledger.copy().startswith("cannot copy the ledger: ")
    assert ledger.spare.read_bytes() == good


def test_a_database_of_a_later_version_is_left_alone(ledger, tmp_path):
    ledger.write([row()], END)
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA user_version = 99")
    ledger.close()
    whole = ledger.path.read_bytes()
    assert "a later version of this program made it (form 99)" in ledger.open()
    assert "later version" in ledger.write([row(1)], END)
    assert ledger.path.read_bytes() == whole


# power cuts


WRITER = """
import sys
from pathlib import Path
from agent.ledger import Ledger
from ledgers import row
ledger = Ledger(Path(sys.argv[1]))
print(ledger.open(), flush=True)
for number in range(int(sys.argv[2]), 10**6):
    assert ledger.write([row(number, nodes=200)], 0) == ""
    print(number, flush=True)
"""


def test_killed_in_the_middle_of_writing_it_holds_everything_acknowledged(tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    told = -1
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(told + 1)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "\n"  # no trouble at its start
            for _ in range(25):
                told = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            told = max([told, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
        trouble, rows = again(tmp_path)
        assert trouble == ""
        assert [settled.slot - K for settled in rows[: told + 1]] == list(range(told + 1))
        assert len(rows) - told - 1 <= 1  # written, and killed before it said so
        assert rows[told] == row(told, nodes=200)
        told = len(rows) - 1


# disks that are full or read-only


def test_a_full_disk_is_told_and_what_waited_is_written_when_there_is_room(small):
    ledger = Ledger(small)
    assert ledger.open() == ""
    assert ledger.write([row(0)], END) == ""
    fill(small)
    troubles = [ledger.write([row(number, nodes=900)], END) for number in range(1, 9)]
    assert troubles[-1].startswith("cannot keep what was settled: database or disk is full")
    assert "cannot copy the ledger" in ledger.copy()
    (small / "filler").unlink()
    (small / "ledger-copy.new").unlink(missing_ok=True)
    assert ledger.write([row(9)], END) == ""
    assert [settled.slot - K for settled in ledger.recent(EVER)[0]] == list(range(10))
    ledger.close()
    fill(small)
    trouble, _ = again(small)
    assert "damaged" not in trouble


def test_a_copy_is_not_lost_because_the_disk_was_full_when_it_was_needed(small):
    ledger = Ledger(small)
    ledger.open()
    ledger.write([row(number, nodes=40) for number in range(50)], END)
    assert ledger.copy() == ""
    ledger.close()
    damage(ledger.path, "rubbish")
    fill(small)
    assert "cannot open the ledger" in ledger.open()
    (small / "filler").unlink()
    assert "last verified copy" in ledger.open()
    assert len(ledger.recent(EVER)[0]) == 50
    ledger.close()


@pytest.fixture
def sealed(tmp_path):
    """A directory in which nobody may write, not even root."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    yield (
        folder,
        lambda: subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True, text=True, check=False),
    )
    subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


def test_a_read_only_directory_is_told_and_waited_for(sealed):
    folder, seal = sealed
    if (done := seal()).returncode:
        pytest.skip(f"a read-only disk needs a mount, which is not permitted here: {done.stderr.strip()}")
    ledger = Ledger(folder)
    assert "Read-only file system" in ledger.open()
    trouble = ledger.write([row(n, nodes=1) for n in range(OWED + 5)], END)
    assert trouble.startswith("cannot open the ledger: ")
    assert trouble.endswith("; 5 had to be given up")
    assert ledger.recent(EVER) == ([], "")
    assert "cannot copy the ledger" in ledger.copy()
    subprocess.run(["umount", "-l", folder], check=True)
    assert ledger.write([row(5000)], END) == ""
    found = ledger.recent(EVER)[0]
    assert (len(found), found[0].slot, found[-1].slot) == (OWED + 1, K + 5, K + 5000)
    ledger.close()


def test_a_directory_in_its_place_is_told(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    ledger = Ledger(tmp_path)
    assert ledger.open().startswith("cannot open the ledger: ")
    assert isinstance(row(), Settled)
    assert ledger.write([row()], END).startswith("cannot open the ledger: ")
