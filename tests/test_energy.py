"""Reading energy records: a table by hand of what counts, and which slots a new record speaks of."""

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.decode import decode
from agent.energy import BEYOND, FELL, UNKNOWN, Use, changed, feeder, read, use
from agent.isle import Want

DAY = 20_000
FIRST = DAY * 96  # the day's first slot


def record(import_wh, export_wh=None, edges=0, **keys):
    """An energy record as it comes from the wire; without exports they are all 0."""
    export_wh = [wh and 0 for wh in import_wh] if export_wh is None else export_wh
    day = keys.get("day", DAY)
    keys = {
        "day": day,
        "slot_s": 900,
        "edges": edges,
        "import_wh": import_wh,
        "export_wh": export_wh,
        "zone": "z",
        "version": 1,
        **keys,
    }
    return decode(wire.place(wire.node_topic("a", wire.energy_kind(day))), json.dumps(keys).encode())


BY_HAND = [  # registers, first edge's index, slot of the day, what it says
    ([100, 130, 130, 135], 0, 0, Use(30, 0, "")),
    ([100, 130, 130, 135], 0, 1, Use(0, 0, "")),
    ([100, 130, 130, 135], 0, 2, Use(5, 0, "")),
    ([100, 130, 130, 135], 0, 3, UNKNOWN),  # has begun
    ([100, 130, 130, 135], 0, -1, UNKNOWN),  # yesterday's
    ([100, 130, 130, 135], 0, 95, UNKNOWN),
    ([100, 130, 135], 7, 6, UNKNOWN),  # before the record begins
    ([100, 130, 135], 7, 7, Use(30, 0, "")),
    ([100, 130, 135], 7, 8, Use(5, 0, "")),
    ([100, 130], 95, 95, Use(30, 0, "")),  # the last of the day, up to the next midnight
    ([100, None, 135], 0, 0, UNKNOWN),
    ([100, None, 135], 0, 1, UNKNOWN),
    ([None, 130, 135], 0, 1, Use(5, 0, "")),
    ([100, 99, 120], 0, 0, FELL),
    ([100, 99, 120], 0, 1, Use(21, 0, "")),
    ([0, 300], 0, 0, Use(300, 0, "")),  # 1000 W * 1.2 * 900 s = 300 Wh
    ([0, 301], 0, 0, Use(301, 0, "")),  # 1 Wh by whole numbers
    ([0, 302], 0, 0, BEYOND),
    ([0, 10**15], 0, 0, BEYOND),
    ([], 0, 0, UNKNOWN),
    ([5], 0, 0, UNKNOWN),
]


@pytest.mark.parametrize(("registers", "edges", "slot", "says"), BY_HAND)
def test_by_hand_for_either_side(registers, edges, slot, says):
    nothing = [wh and 0 for wh in registers]
    assert use(record(registers, nothing, edges, rated_w=1000), FIRST + slot) == says
    turned = Use(says.export_wh, says.import_wh, says.why) if isinstance(says, Use) else says
    assert use(record(nothing, registers, edges, rated_w=1000), FIRST + slot) == turned


def test_why_a_part_is_less_than_exact_goes_with_it():
    flagged = record([0, 5, 9], [0, 1, 1], edges=4, flags={"5": "integrated partial"})
    assert use(flagged, FIRST + 4) == Use(5, 1, "")
    assert use(flagged, FIRST + 5) == Use(4, 0, "integrated partial")


def test_a_record_without_a_rating_is_bounded_all_the_same():
    most = wire.MAX_W * 6 // 5 // 4 + 1
    assert use(record([0, most]), FIRST) == Use(most, 0, "")
    assert use(record([0, most + 1]), FIRST) == BEYOND


def test_a_slot_over_the_nodes():
    records = [
        ("a", record([0, 10, 30])),
        ("b", record([5, 5, 7], [0, 9, 9], flags={"1": "clock"})),
        ("c", record([0, 10, 5])),  # falls
        ("d", record([0, 10], edges=1)),
        ("e", record([0, 10])),  # has not told the second edge yet
        ("f", record([0, 10, 30], zone="far")),
        ("g", record([0, 10, 30], day=DAY + 1)),
        ("h", record([0, 10, 30], slot_s=300)),
        ("i", record([0, 10, 9000], rated_w=100)),
    ]
    found = read(records, FIRST + 1, 900, "z")
    assert found.uses == {"a": Use(20, 0, ""), "b": Use(2, 0, "clock"), "d": Use(10, 0, "")}
    assert found.uncounted == {"c": FELL, "e": UNKNOWN, "h": "slots of 300 s", "i": BEYOND}
    for order in permutations(records[:5]):
        again = read(order, FIRST + 1, 900, "z")
        assert sorted(again.uses) == ["a", "b", "d"]
    assert read(records, FIRST + 1, 900, "far").uses == {"f": Use(20, 0, "")}
    assert read([], FIRST, 900, "z") == ({}, {})


def test_what_a_new_record_speaks_of():
    old = record([0, 5, 9])
    both = {FIRST, FIRST + 1}
    assert changed(None, old) == both
    assert changed(old, old) == set()
    assert changed(old, record([0, 5, 9, 12])) == {FIRST + 2}
    assert changed(old, record([0, 6, 9])) == both
    assert changed(old, record([1, 5, 9])) == {FIRST}  # not yesterday's last slot: that stands in yesterday's record
    assert changed(old, record([0, 5, 9], flags={"1": "clock"})) == {FIRST + 1}
    assert changed(old, record([5, 9], edges=1)) == {FIRST}
    assert changed(old, record([0, 5, 9], day=DAY + 2)) == {slot + 192 for slot in both}
    assert changed(old, record([0, 5, 9], rated_w=7)) == changed(old, record([0, 5, 9], zone="y")) == both
    assert changed(old, record([5, 9, 12], zone="y", edges=1)) == both | {FIRST + 2}
    assert changed(old, record([5, 9], slot_s=300, edges=7)) == {DAY * 288 + 7}
    assert changed(None, record([])) == set()
    end = record([5, 9], edges=95)
    assert changed(record([5], edges=95), end) == {FIRST + 95}


# in an island


GEN = {"feeder": {"0": "generator"}}
WANTED = [  # what the record has besides 30 Wh taken, what it says of slot 0, and the doubt
    ({}, None, ""),
    ({"wanted_wh": [7, 57], "avail_wh": [100, 130]}, Want(50, 30, "", False), ""),
    ({"wanted_wh": [7, 7], "avail_wh": [100, 100]}, Want(0, 0, "", False), ""),
    ({"wanted_wh": [7, 307], "avail_wh": [0, 0]}, Want(300, 0, "", False), ""),  # 1000 W * 1.2 * 900 s
    ({"wanted_wh": [7, 309], "avail_wh": [0, 0]}, None, "wanted: more than its rating"),
    ({"wanted_wh": [0, 0], "avail_wh": [100, 702]}, Want(0, 602, "", False), ""),  # sun and battery, each the rating
    ({"wanted_wh": [0, 0], "avail_wh": [100, 703]}, None, "wanted: more than its rating"),
    ({"wanted_wh": [0, 0], "avail_wh": [100, 9100], **GEN}, Want(0, 9000, "generator", False), ""),
    (
        {"wanted_wh": [0, 0], "avail_wh": [0, 4 * 10**8], **GEN},
        Want(None, None, "generator", False),
        "wanted: more than its rating",
    ),
    (
        {"wanted_wh": [0, 0], "avail_wh": [100, 9100], "feeder": {"0": "grid"}},
        Want(None, None, "grid", False),
        "wanted: more than its rating",
    ),
    ({"wanted_wh": [0, 309], "avail_wh": [100, 100], **GEN}, Want(None, None, "generator", False), "wanted: more than its rating"),
    ({"wanted_wh": [7, 6], "avail_wh": [0, 0]}, None, "wanted: registers fall"),
    ({"wanted_wh": [7, 7], "avail_wh": [1, 0], **GEN}, Want(None, None, "generator", False), "wanted: registers fall"),
    ({"wanted_wh": [None, 7], "avail_wh": [None, 0]}, None, ""),
    ({"wanted_wh": [7, None], "avail_wh": [1, None], **GEN}, Want(None, None, "generator", False), ""),
    ({"feeder": {"0": "grid"}}, Want(None, None, "grid", False), ""),
    ({"feeder": {"1": "grid"}}, None, ""),
    ({"wanted_wh": [7, 57], "avail_wh": [100, 130], "flags": {"0": "shed"}}, Want(50, 30, "", True), "shed"),
    ({"wanted_wh": [7, 57], "avail_wh": [100, 130], "flags": {"0": "clock unseen"}}, None, "clock unseen"),
    (
        {"wanted_wh": [9, 7], "avail_wh": [0, 0], "flags": {"0": "clock shed"}},
        Want(None, None, "", True),
        "clock shed wanted: registers fall",
    ),
    ({"flags": {"0": "shed"}}, None, "shed"),  # of no island
]


@pytest.mark.parametrize(("more", "want", "why"), WANTED)
def test_what_was_wanted_by_hand(more, want, why):
    assert use(record([100, 130], rated_w=1000, **more), FIRST) == Use(30, 0, why, want)


def test_what_was_wanted_never_uncounts_what_was_taken():
    taken = use(record([0, 302], rated_w=1000, wanted_wh=[0, 0], avail_wh=[0, 0]), FIRST)
    assert taken == BEYOND
    assert use(record([0, 5], wanted_wh=[0, wire.MAX_WH], avail_wh=[0, wire.MAX_WH]), FIRST).import_wh == 5


def test_what_a_feeder_is_from_each_slot_on():
    said = record([0, 1], feeder={"3": "generator", "40": "", "7": "grid"})
    assert [feeder(said, slot) for slot in (0, 2, 3, 6, 7, 39, 40, 95)] == [
        "",
        "",
        "generator",
        "generator",
        "grid",
        "grid",
        "",
        "",
    ]
    assert feeder(record([0, 1]), 5) == ""


def test_what_a_new_record_speaks_of_in_an_island():
    plain = record([0, 5, 9])
    old = record([0, 5, 9], wanted_wh=[0, 6, 9], avail_wh=[0, 0, 0])
    both = {FIRST, FIRST + 1}
    assert changed(old, old) == set()
    assert changed(plain, old) == changed(old, plain) == both
    assert changed(old, record([0, 5, 9], wanted_wh=[0, 6, 10], avail_wh=[0, 0, 0])) == {FIRST + 1}
    assert changed(old, record([0, 5, 9], wanted_wh=[0, 6, 9], avail_wh=[0, 1, 0])) == both
    fed = record([0, 5, 9], wanted_wh=[0, 6, 9], avail_wh=[0, 0, 0], feeder={"1": "generator"})
    assert changed(old, fed) == changed(fed, old) == {FIRST + 1}
    assert changed(fed, record([0, 5, 9, 12], wanted_wh=[0, 6, 9, 9], avail_wh=[0] * 4, feeder={"1": "generator"})) == {FIRST + 2}


registers = st.lists(st.one_of(st.none(), st.integers(0, 400)), max_size=8)


feeders = st.dictionaries(st.integers(0, 9).map(str), st.sampled_from(["", "grid", "generator"]), max_size=3)
days = st.builds(
    lambda edges, rows, fed, told: record(
        [row and row[0] for row in rows],
        edges=edges,
        rated_w=1000,
        feeder=fed,
        **({name: [row and row[at] for row in rows] for name, at in (("wanted_wh", 1), ("avail_wh", 2))} if told else {}),
    ),
    st.integers(0, 3),
    st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 900))), max_size=8),
    feeders,
    st.booleans(),
)


@given(days, days)
def test_slots_not_named_as_changed_say_the_same_as_before_in_an_island(old, new):
    for slot in set(range(FIRST, FIRST + 96)) - changed(old, new):
        assert use(old, slot) == use(new, slot)


@given(registers, registers, st.integers(0, 3), st.integers(0, 3))
def test_slots_not_named_as_changed_say_the_same_as_before(before, after, edges_before, edges_after):
    old, new = record(before, edges=edges_before, rated_w=1000), record(after, edges=edges_after, rated_w=1000)
    for slot in set(range(FIRST, FIRST + 96)) - changed(old, new):
        assert use(old, slot) == use(new, slot)
