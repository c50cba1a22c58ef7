"""The ledger: what is written is there, and beside the running agent it can be read and copied."""

import sqlite3
import stat
import threading
from contextlib import closing

from ledgers import END, EVER, K, again, row

from agent.ledger import KEEP_S, Ledger, read


def test_what_is_written_is_read_back_in_order(ledger, tmp_path):
    rows = [row(1), row(0), row(0, revision=1, missing={"x": "no record"}, flags={"n1": "clock"}), row(2, zone="y")]
    assert ledger.recent(EVER) == ([], "")
    assert ledger.write(rows[:2], END) == ""
    assert ledger.write(rows[2:], END) == ""
    assert ledger.write([], END) == ""
    in_order = [rows[1], rows[2], rows[0], rows[3]]
    assert ledger.recent(EVER) == (in_order, "")
    assert ledger.recent(901) == ([rows[0], rows[3]], "")  # the newest slot and the one before, whatever the clock says
    assert again(tmp_path) == ("", in_order)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_slot_settled_twice_alike_stands_there_once(ledger):
    ledger.write([row(), row(5)], END)
    ledger.write([row()], END)
    assert len(ledger.recent(EVER)[0]) == 2


def test_what_is_written_is_not_written_again(ledger):
    ledger.write([row(0)], END)
    with closing(sqlite3.connect(ledger.path)) as other, other:
        other.execute("DELETE FROM settled")
    ledger.write([row(1)], END)
    assert ledger.recent(EVER) == ([row(1)], "")


def test_an_audit_reads_a_span_and_what_was_booked_in_it_beside_the_running_agent(ledger, tmp_path):
    ledger.write([row(n) for n in range(200)] + [row(3, revision=1, booked=K + 110)], END)
    found, trouble = read(tmp_path, END + 99 * 900, END + 120 * 900)
    assert trouble == ""
    assert [(settled.slot - K, settled.revision) for settled in found] == [(3, 1), *((n, 0) for n in range(100, 121))]
    ledger.close()
    assert len(read(tmp_path, 0, END + 10**6)[0]) == 201  # and when no agent runs
    assert read(tmp_path / "nowhere", 0, END) == (
        [],
        f"cannot read the ledger: unable to open database file: {tmp_path}/nowhere/ledger.db",
    )


def test_what_is_older_than_400_days_is_let_go(ledger):
    ledger.write([row(0), row(1)], END + KEEP_S)
    assert [settled.slot for settled in ledger.recent(EVER)[0]] == [K, K + 1]
    ledger.write([], END + KEEP_S + 1)
    assert [settled.slot for settled in ledger.recent(EVER)[0]] == [K + 1]


def test_closed_twice_and_never_opened(tmp_path):
    one = Ledger(tmp_path)
    assert one.recent(EVER) == ([], "")
    one.close()
    assert one.write([row()], END) == ""  # opens
    one.close()
    one.close()
    assert again(tmp_path) == ("", [row()])


# copies beside the running agent


def test_a_copy_on_another_thread_while_it_is_written(ledger, tmp_path):
    ledger.write([row(n, nodes=60) for n in range(300)], END)
    said = []
    thread = threading.Thread(target=lambda: said.append(ledger.copy()))
    thread.start()
    number = 300
    while thread.is_alive() or number == 300:
        assert ledger.write([row(number)], END) == ""
        number += 1
    thread.join()
    assert said == [""]
    assert {path.name for path in tmp_path.iterdir()} >= {"ledger.db", "ledger-copy.db"}
    assert not (tmp_path / "ledger-copy.new").exists()
    with closing(sqlite3.connect(ledger.spare)) as spare:
        assert spare.execute("SELECT count(*) FROM settled").fetchone()[0] >= 300
        assert spare.execute("PRAGMA journal_mode").fetchone() == ("delete",)
