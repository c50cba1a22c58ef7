"""grid audit over ledgers made by hand: entries, corrections, totals, what does not come out, and two stores compared."""

import json
import re
import sqlite3
from contextlib import closing
from inspect import signature

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from test_cli import in_window

from agent import audit as core
from agent.accounts import digest, entries, revise, settle
from agent.cli.main import grid
from agent.isle import Want
from agent.ledger import Ledger
from agent.wire import Rates

DAY = 20_780
M = DAY * 86_400
TODAY, BEFORE = "2026-11-23", "2026-11-22"
K = M // 900
RATES = Rates(import_u=300_000, export_u=80_000, floor_u=80_000, cap_u=300_000, currency="EUR", slot_s=900, rule="mmr")


def slot(number, uses, zone="main", wants=None, rates=RATES, **keys):
    return msgspec.structs.replace(settle(K + number, zone, uses, rates, wants), **keys)


# 400 met at 0.19, 600 from outside at 0.30: buyers (76 + 180) / 1000 = 0.256
FIRST = slot(0, {"oak": (1000, 0), "mill": (0, 400)}, missing={"elm": "no record"}, flags={"mill": "clock"})
# 1 met, 2 from outside: (0.19 + 0.60) / 3 = 0.26333…, up
SECOND = slot(1, {"oak": (3, 0), "mill": (0, 1)}, missing={"elm": "no record"})
# 2 met, 1 from outside: (0.38 + 0.30) / 3 = 0.22666…, up
AGAIN = revise(SECOND, slot(1, {"oak": (3, 0), "mill": (0, 1), "elm": (0, 1)}), K + 5)
OLD = slot(-100, {"oak": (100, 0)})  # 23:00 two days before
LATE = revise(OLD, slot(-100, {"oak": (100, 0), "mill": (0, 100)}), K + 1)  # final since 00:00, so booked at 00:15
ROWS = [OLD, FIRST, SECOND, AGAIN, LATE]


def run(*words):
    """One command in this process, its stderr apart (click before 8.2 has to be told so)."""
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    return CliRunner(**apart).invoke(grid, words)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


class Node:
    def __init__(self, folder, rows=ROWS, id_="oak"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config = folder, str(folder / "grid.toml")
        (folder / "grid.toml").write_text(f'[node]\nid = "{id_}"\nrated_w = 1000\n[state]\ndir = "."\n')
        if rows is not None:
            with closing(Ledger(folder)) as ledger:
                assert (ledger.open(), ledger.write(rows, M + 3 * 86_400)) == ("", "")

    def audit(self, *words, code=0):
        done = run("audit", "-c", self.config, *words)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        assert "Traceback" not in done.stderr
        if code == 0:
            assert done.stderr == ""
        return done

    def json(self, *words, code=0):
        return json.loads(self.audit("--json", *words, code=code).stdout)


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


# two stores


def other(tmp_path, rows, day=TODAY):
    path = tmp_path / "mill.json"
    path.write_text(Node(tmp_path / "mill", rows, "mill").audit("--day", day, "--json").stdout)
    return str(path)


def test_stores_that_are_alike(node, tmp_path):
    path = other(tmp_path, [*ROWS[:2], msgspec.structs.replace(AGAIN, revision=0, missing={"x": "no record"})])
    assert node.audit("--day", TODAY, "--compare", path).stdout == "2026-11-23 UTC, slots: 2, the same in both stores\n"
    assert node.json("--day", TODAY, "--compare", path)["differ"] == []
    # one heard in time what the other booked as a correction; from both sides
    path = other(tmp_path / "two", [msgspec.structs.replace(LATE, revision=0, booked=LATE.slot)], "2026-11-21")
    assert node.json("--day", "2026-11-21", "--compare", path)["differ"] == []
    (tmp_path / "oak.json").write_text(node.audit("--day", "2026-11-21", "--json").stdout)
    mill = Node(tmp_path / "two" / "mill", None, "mill")
    assert mill.json("--day", "2026-11-21", "--compare", str(tmp_path / "oak.json"))["differ"] == []


def test_where_two_stores_differ(node, tmp_path):
    there = [FIRST, slot(1, {"oak": (4, 0), "mill": (0, 1)}), slot(2, {"oak": (1, 0)})]
    path = other(tmp_path, there)
    differ = node.json("--day", TODAY, "--compare", path, code=1)["differ"]
    assert [(one["slot"], one["start"], one["what"]) for one in differ] == [
        (K + 1, "2026-11-23T00:15:00Z", {"elm": [[0, 1], None], "oak": [[3, 0], [4, 0]]}),
        (K + 2, "2026-11-23T00:30:00Z", {"slot": [None, "revision 0"]}),
    ]
    assert node.audit("--day", TODAY, "--compare", path, code=1).stdout.splitlines() == [
        "slot\tzone\twhat\there\tthere",
        "00:15\tmain\telm\t0 in, 1 out (Wh)\tnothing",
        "00:15\tmain\toak\t3 in, 0 out (Wh)\t4 in, 0 out (Wh)",
        "00:30\tmain\tslot\tnothing\trevision 0",
    ]
    rates = msgspec.structs.replace(RATES, import_u=310_000)
    path = other(tmp_path / "two", [slot(0, FIRST.uses, rates=rates), SECOND, AGAIN])
    (one,) = node.json("--day", TODAY, "--compare", path, code=1)["differ"]
    assert one["what"] == {"import_u": [300_000, 310_000]}


def test_where_two_stores_differ_in_an_island(tmp_path):
    uses, mill = {"mill": (0, 60), "oak": (60, 0)}, Want(0, 100, "generator", False)
    here = Node(tmp_path / "here", [slot(0, uses, wants={"mill": mill, "oak": Want(70, 0, "", False)})])
    there = slot(0, uses, wants={"mill": mill, "oak": Want(90, 0, "", True)})
    assert here.audit("--day", TODAY, "--compare", other(tmp_path, [there]), code=1).stdout.splitlines()[1:] == [
        "00:00\tmain\tisland\t70 wanted, 100 could be made (Wh)\t90 wanted, 100 could be made (Wh), some shed",
        "00:00\tmain\toak, island\t70 wanted, 0 could be made (Wh)\t90 wanted, 0 could be made (Wh), some shed",
    ]
    tied = slot(0, uses)
    said = here.audit("--day", TODAY, "--compare", other(tmp_path / "b", [tied]), code=1).stdout
    assert "mill, island\t0 wanted, 100 could be made (Wh), generator\tnothing" in said
    assert "rule\tisland/1\tmmr/1" in said


def test_files_that_cannot_be_compared(node, tmp_path):
    path = other(tmp_path, ROWS)
    whole = (tmp_path / "mill.json").read_text()
    for text, why in [
        (whole[:-40], "not what grid audit prints ("),
        ("[]", "not what grid audit prints ("),
        ("\x00\xff", "At the other node: grid audit --day 2026-11-23 --json > FILE"),
        (whole.replace(TODAY, BEFORE), "tells of '2026-11-22', not of 2026-11-23"),
        (whole.replace("[1000,0]", "[1001,0]"), "what it says of the slot 2026-11-23T00:00:00Z does not give its digest"),
        (whole.replace(f'"slot":{K},', f'"slot":{K * 1000},'), "tells of slots of another day than 2026-11-23"),
        (whole.replace('"slot_s":900', '"slot_s":0'), "not what grid audit prints ("),
    ]:
        (tmp_path / "mill.json").write_text(text)
        said = node.audit("--day", TODAY, "--compare", path, code=1).stderr
        assert why in said, said
    assert "cannot be read (No such file" in node.audit("--day", TODAY, "--compare", path + "x", code=1).stderr


# windows and sums


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


def test_a_correction_belongs_to_the_day_that_begins_with_the_slot_in_which_it_is_booked():
    rows = [slot(-1, {"oak": (1, 0)}), slot(-1, {"oak": (2, 0)}, revision=1, booked=K)]
    assert [len(core.audit(rows, M + n * 86_400, M + (n + 1) * 86_400).corrections) for n in (-1, 0, 1)] == [0, 1, 0]


uses = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 5), uses, st.integers(1, 300)), max_size=12))
def test_over_all_days_the_entries_are_the_newest_revision_s_and_every_day_s_sum_is_zero(steps):
    rows, newest, clock = [], {}, 0
    for number, parts, hours in steps:
        clock += hours
        revised = revise(newest.get(number), slot(number, parts), K + 6 + clock)
        if revised is not None:
            newest[number] = revised
            rows.append(revised)
    books, days = {}, 0
    for day in range(DAY, DAY + 42):
        found = core.audit(rows, day * 86_400, (day + 1) * 86_400)
        made = list(core.lines(found))
        assert found.problems == []
        assert sum(line.nano for line in made) == 0
        assert sum(total.nano for total in core.totals(made).values()) == 0
        for line in made:
            books[line.account] = books.get(line.account, 0) + line.nano
        days += len(found.books)
    last = {}
    for row in newest.values():
        for name, nano in entries(row).items():
            last[name] = last.get(name, 0) + nano
    assert ({n: v for n, v in books.items() if v}, days) == ({n: v for n, v in last.items() if v}, len(newest))


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00"), (1, "0.000000001"), (-1_250_000, "-0.00125"), (2_500_000_000, "2.50"), (-(10**27), f"-{10**18}.00")],
)
def test_money(nano, text):
    assert core.money_text(nano) == text
    assert core.money_texts([nano, 1])[1] == "0.000000001"
    assert core.money_texts([]) == []
