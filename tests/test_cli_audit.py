"""grid audit over ledgers made by hand: entries, corrections, totals, and what does not come out."""

import json
import re
import sqlite3
from contextlib import closing

import msgspec
import pytest
from audited import AGAIN, BEFORE, FIRST, LATE, OLD, ROWS, SECOND, TODAY, K, Node, slot
from test_cli import in_window

from agent.accounts import digest, entries, revise
from agent.isle import Want


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_the_rows_are_what_they_are_meant_to_be():
    assert (LATE.revision, LATE.booked, AGAIN.revision, AGAIN.booked) == (1, K + 1, 1, K + 1)
    assert [(row.buy_u, row.sell_u) for row in ROWS[1:]] == [
        (256_000, 190_000),
        (263_334, 190_000),
        (226_667, 190_000),
        (190_000, 190_000),
    ]


def test_json(node):
    said = node.json("--day", TODAY)
    assert (said["node"], said["day"], said["problems"]) == ("oak", TODAY, [])
    first, second = said["slots"]
    head = {"slot": K, "zone": "main", "revision": 0, "digest": FIRST.digest, "price_buy_u": 256_000, "price_sell_u": 190_000}
    books = {"mill": 76_000_000, "oak": -256_000_000, "grid": 180_000_000, "pool": 0}
    assert first == {
        **head,
        "start": "2026-11-23T00:00:00Z",
        "slot_s": 900,
        "entries": books,
        "sum": 0,
        **{"rule": "mmr/1", "currency": "EUR", "import_u": 300_000, "export_u": 80_000, "floor_u": 80_000, "cap_u": 300_000},
        **{
            "island": None,
            "uses": {"mill": [0, 400], "oak": [1000, 0]},
            "missing": {"elm": "no record"},
            "flags": {"mill": "clock"},
        },
        "corrected": [],
    }
    assert (second["slot"], second["revision"], second["digest"]) == (K + 1, 1, AGAIN.digest)
    assert second["entries"] == {"elm": 190_000, "mill": 190_000, "oak": -680_001, "grid": 300_000, "pool": 1}
    (late,) = said["corrections"]
    assert (late["slot"], late["start"], late["booked"], late["booked_start"]) == (
        K - 100,
        "2026-11-21T23:00:00Z",
        K + 1,
        "2026-11-23T00:15:00Z",
    )
    assert late["entries"] == {"oak": 11_000_000, "mill": 19_000_000, "grid": -30_000_000}
    assert (late["sum"], late["digest"], late["price_buy_u"]) == (0, LATE.digest, 190_000)
    totals = {row["account"]: (row["import_wh"], row["export_wh"], row["nano"], row["corrected_nano"]) for row in said["totals"]}
    assert totals == {
        "oak": (1003, 0, -245_680_001, 11_000_000),
        "mill": (0, 501, 95_190_000, 19_000_000),
        "elm": (0, 1, 190_000, 0),
        "grid": (0, 0, 150_300_000, -30_000_000),
        "pool": (0, 0, 1, 0),
    }
    assert sum(nano for _, _, nano, _ in totals.values()) == 0


def test_the_day_of_a_corrected_slot_keeps_its_entries_and_tells_of_the_correction(node):
    said = node.json("--day", "2026-11-21")
    (book,) = said["slots"]
    assert (book["revision"], book["digest"], book["entries"]) == (
        0,
        OLD.digest,
        {"oak": -30_000_000, "grid": 30_000_000, "pool": 0},
    )
    (late,) = book["corrected"]
    assert (late["revision"], late["booked"], late["digest"]) == (1, K + 1, LATE.digest)
    assert late["uses"] == {"mill": [0, 100], "oak": [100, 0]}
    assert said["corrections"] == []
    assert [row["nano"] for row in said["totals"]] == [-30_000_000, 30_000_000, 0]


def test_csv(node):
    a, b, c = FIRST.digest, AGAIN.digest, LATE.digest
    expected = f"""\
slot_start,zone,node,import_wh,export_wh,amount,currency,correction_of,revision,digest
2026-11-23T00:00:00Z,main,mill,0,400,0.076,EUR,,0,{a}
2026-11-23T00:00:00Z,main,oak,1000,0,-0.256,EUR,,0,{a}
2026-11-23T00:00:00Z,main,grid,,,0.18,EUR,,0,{a}
2026-11-23T00:00:00Z,main,pool,,,0.00,EUR,,0,{a}
2026-11-23T00:15:00Z,main,elm,0,1,0.00019,EUR,,1,{b}
2026-11-23T00:15:00Z,main,mill,0,1,0.00019,EUR,,1,{b}
2026-11-23T00:15:00Z,main,oak,3,0,-0.000680001,EUR,,1,{b}
2026-11-23T00:15:00Z,main,grid,,,0.0003,EUR,,1,{b}
2026-11-23T00:15:00Z,main,pool,,,0.000000001,EUR,,1,{b}
2026-11-23T00:15:00Z,main,mill,0,100,0.019,EUR,2026-11-21T23:00:00Z,1,{c}
2026-11-23T00:15:00Z,main,oak,0,0,0.011,EUR,2026-11-21T23:00:00Z,1,{c}
2026-11-23T00:15:00Z,main,grid,,,-0.03,EUR,2026-11-21T23:00:00Z,1,{c}
"""
    assert node.audit("--day", TODAY, "--csv").stdout == expected
    only = node.audit("--day", TODAY, "--csv", "--node", "elm").stdout
    assert only.splitlines() == [expected.splitlines()[0], f"2026-11-23T00:15:00Z,main,elm,0,1,0.00019,EUR,,1,{b}"]
    assert node.audit("--day", BEFORE, "--csv").stdout == expected.splitlines()[0] + "\n"


def test_plain_lines(node):
    slots, late, totals = node.audit("--day", TODAY).stdout.split("\n\n")
    assert slots.splitlines() == [
        "2026-11-23 UTC, slots: 2, corrections: 1",
        "slot\tzone\trev\tdigest\tbuy\tsell\tnodes\tsum\tflags\tmissing",
        f"00:00\tmain\t0\t{FIRST.digest[:12]}\t0.2560\t0.1900\t2/3\t0\tmill: clock\telm: no record",
        f"00:15\tmain\t1\t{AGAIN.digest[:12]}\t0.226667\t0.1900\t3/3\t0\t\t",
    ]
    assert late.splitlines()[1:] == [
        f"00:15\t11-21 23:00\tmain\t1\t{LATE.digest[:12]}\tmill\t0.019",
        f"00:15\t11-21 23:00\tmain\t1\t{LATE.digest[:12]}\toak\t0.011",
        f"00:15\t11-21 23:00\tmain\t1\t{LATE.digest[:12]}\tgrid\t-0.030",
    ]
    assert totals.splitlines()[1:3] == ["mill\t0\t501\t0.095190000\tEUR\t0.019", "oak\t1003\t0\t-0.245680001\tEUR\t0.011"]
    empty = node.audit("--day", BEFORE).stdout
    assert empty == "2026-11-22 UTC, slots: 0, corrections: 0\nno slot of this day is settled here; each is, 20 s after its end\n"


def test_one_node(node):
    slots, late, totals = node.audit("--day", TODAY, "--node", "mill").stdout.split("\n\n")
    assert [row.split("\t")[4:] for row in slots.splitlines()[2:]] == [
        ["0.2560", "0.1900", "0", "400", "0.07600", "clock"],
        ["0.226667", "0.1900", "0", "1", "0.00019", ""],
    ]
    assert len(late.splitlines()) == len(totals.splitlines()) == 2
    rows = node.audit("--day", TODAY, "--node", "elm").stdout.splitlines()
    assert rows[2].split("\t")[6:] == ["", "", "", "no record"]
    assert node.json("--day", TODAY, "--node", "grid")["slots"][0]["entries"] == {"grid": 180_000_000}
    text = "no node 'ash' in the slots of 2026-11-23. There are: elm, grid, mill, oak, pool"
    assert text in node.audit("--day", TODAY, "--node", "ash", code=1).stderr


def test_nodes_whose_names_are_also_accounts_an_island_and_two_zones(tmp_path):
    uses = {"grid": (10, 0), "pool": (0, 12)}
    wants = {"grid": Want(7, 0, "", False), "pool": Want(0, 10, "generator", False)}
    rows = [slot(0, uses), slot(0, uses, zone="east", wants=wants)]
    node = Node(tmp_path, rows)
    # 10 met at 0.19, 2 to the outside at 0.08: sellers 2.06 / 12, down
    tied, isle = reversed(node.json("--day", TODAY)["slots"])
    assert tied["entries"] == {"node/grid": -1_900_000, "node/pool": 12 * 171_666, "grid": -160_000, "pool": 8}
    assert (isle["zone"], isle["rule"], isle["island"]) == ("east", "island/1", [7, 10, False])
    assert isle["entries"] == {"node/grid": -1_350_000, "node/pool": 1_620_000, "grid": 0, "pool": -270_000}  # a quarter up: 0.135
    assert isle["wants"] == {"grid": [7, 0, "", False], "pool": [0, 10, "generator", False]}
    assert "wants" not in tied
    text = " ".join(node.audit("--day", TODAY).stdout.split())
    assert "island: 7 Wh wanted, 10 could be made" in text
    shed = slot(1, uses, zone="east", wants=wants | {"grid": Want(7, 0, "", True)})
    assert "10 could be made, some shed" in " ".join(Node(tmp_path / "b", [shed]).audit("--day", TODAY).stdout.split())
    assert node.json("--day", TODAY, "--node", "node/grid")["slots"][0]["entries"] == {"node/grid": -1_350_000}


# what does not come out


def damage(folder, where, what="body = x'00'"):
    with closing(sqlite3.connect(folder / "ledger.db")) as db:
        assert db.execute(f"UPDATE settled SET {what} WHERE {where}").rowcount == 1
        db.commit()


def test_a_damaged_revision_is_left_out_and_told(node):
    damage(node.folder, f"ends = {(K + 2) * 900} AND revision = 0")
    done = node.audit("--day", TODAY, "--json", code=1)
    assert done.stderr.splitlines() == [
        "grid: 1 revisions in the ledger are damaged and left out",
        "grid: 2026-11-23T00:15:00Z in main: revision 0 is not in the ledger",
    ]
    assert len(json.loads(done.stdout)["slots"]) == 2


def test_a_correction_without_what_it_corrects_is_no_entry(node):
    damage(node.folder, f"ends = {(K - 99) * 900} AND revision = 0")
    done = node.audit("--day", TODAY, "--json", code=1)
    assert "2026-11-21T23:00:00Z in main: revision 0 is not in the ledger" in done.stderr
    # nor is it told of when the day does not have it
    assert json.loads(done.stdout)["corrections"] == []


def test_a_changed_price_a_changed_part_and_a_rule_of_a_later_version(tmp_path):
    later = msgspec.structs.replace(slot(3, {"oak": (1, 0)}), rule="auction/1")
    rows = [
        msgspec.structs.replace(FIRST, buy_u=255_999),
        msgspec.structs.replace(AGAIN, revision=0, uses=SECOND.uses),
        slot(2, {"oak": (1, 0)}),
        msgspec.structs.replace(later, digest=digest(later)),
    ]
    done = Node(tmp_path, rows).audit("--day", TODAY, "--json", code=1)
    assert json.loads(done.stdout)["problems"] == [
        "2026-11-23T00:00:00Z in main, revision 0: its parts give the prices 256000 and 190000",
        "2026-11-23T00:15:00Z in main, revision 0: its parts do not give its digest",
        "2026-11-23T00:45:00Z in main, revision 0: this version does not know the rule 'auction' in its version '1'",
    ]
    assert done.stderr.count("\n") == 3


def test_no_ledger_and_one_that_is_none(tmp_path):
    node = Node(tmp_path, rows=None)
    said = node.audit("--day", TODAY, code=1).stderr
    assert said.startswith(f"grid: there is no ledger, or this user may not see it: {tmp_path}/ledger.db. The agent makes it")
    (tmp_path / "ledger.db").write_bytes(b"x" * 8192)
    assert "cannot read the ledger" in node.audit("--day", TODAY, "--json", code=1).stderr


def test_wrong_words(node):
    for words, why in [
        (["--day", "2026-13-01"], "'2026-13-01' is no day. Write one as 20"),
        (["--day", "monday"], "or today, or yesterday (UTC)"),
        (["--day", "1969-12-31"], "slots are counted from 1970 on"),
        (["--csv", "--json"], "--csv goes neither with --json nor with --compare"),
        (["--csv", "--compare", "x"], "Take one of them"),
    ]:
        assert why in node.audit(*words, code=2).stderr
    for words in ([], ["--day", "today"], ["--day", "yesterday", "--json"]):
        node.audit(*words)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_and_never_cut_a_number(tmp_path, columns):
    long = "very-long-house-name-at-the-lane"
    rows = [
        msgspec.structs.replace(slot(0, {long: (123_456, 0), "mill": (0, 7)}), missing={f"n{n}": "no record" for n in range(9)})
    ]
    late = revise(OLD, slot(-100, {"oak": (100, 0), long: (123_456, 0)}), K + 1)
    node = Node(tmp_path, [*rows, OLD, late])
    said = ""
    for words in ([], ["--node", long]):
        code, shown = in_window(columns, "audit", "--day", TODAY, "-c", node.config, *words)
        assert code == 0
        plain = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
        assert all(len(line) <= columns for line in plain), plain
        assert "digest" in plain[1] or columns == 60
        assert "missing" not in plain[1] or columns == 120
        said += shown
    # 7 met at 0.19, the rest at 0.30: (1330000 + 123449 * 300000) / 123456 = 299993.76…, up
    assert "0.299994" in said
    assert entries(rows[0])[long] == -123_456 * 299_994
    assert said.count("-37.036059264") == 1  # in the node's slots
    assert said.count("-37.0368") >= 2  # in the corrections: 123456 Wh at 0.30
    assert said.count("-74.072859264") == 2  # in the totals
