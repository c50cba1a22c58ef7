"""grid audit --compare: where two nodes' ledgers differ, and which files cannot be compared."""

import msgspec
import pytest
from audited import AGAIN, BEFORE, FIRST, LATE, RATES, ROWS, SECOND, TODAY, K, Node, slot

from agent.isle import Want


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


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
