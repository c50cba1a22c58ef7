"""Readings: flipping, and a node's account by hand and by property."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.reading import QUANTITIES, Account, Reading, Role, absent, account, flipped


def good(w: int) -> Reading:
    return Reading("good", "", {"w": w})


# (meters, produced, consumed, a word of why). Grid + takes, pv - makes, battery + charges.
BY_HAND = [
    ([("m", "grid", 800)], 0, 800, ""),
    ([("m", "grid", -300)], 300, 0, "300 W flow out"),
    # 4870 W of sun, 3674 W go out: 1196 W are used here
    ([("m", "grid", -3674), ("roof", "pv", -4870)], 4870, 1196, ""),
    # 1000 W of sun, 400 W into the battery, 200 W from the grid: used 1000 + 200 = 1200 W, the battery's 400 W among them
    ([("m", "grid", 200), ("roof", "pv", -1000), ("b", "battery", 400)], 1000, 1200, ""),
    # the battery gives 700 W, 50 W go out: 650 W are used
    ([("m", "grid", -50), ("b", "battery", -700)], 700, 650, ""),
    # night: the inverter draws 12 W of the 500 W
    ([("m", "grid", 500), ("roof", "pv", 12)], 0, 500, ""),
    ([("m", "grid", 100), ("g", "generator", -2000)], 2000, 2100, ""),
    # 1500 W go out, only 1200 W are metered: 300 W are unexplained, the net stays +1500 W
    ([("m", "grid", -1500), ("roof", "pv", -1200)], 1500, 0, "300 W flow out that no pv"),
    # load meters do not count beside a grid meter
    ([("m", "grid", 900), ("kitchen", "load", 5000)], 0, 900, ""),
    # three grid meters, one a phase; two roofs
    ([("a", "grid", 300), ("b", "grid", -100), ("c", "grid", 50), ("e", "pv", -200), ("w", "pv", -600)], 800, 1050, ""),
    # no grid meter: 700 + 250 W of load, 300 W into the battery, 8 W of standby; 2000 W of sun
    ([("k", "load", 700), ("l", "load", 250), ("b", "battery", 300), ("x", "pv", 8), ("roof", "pv", -2000)], 2000, 1258, ""),
    ([("b", "battery", -400), ("k", "load", 900)], 400, 900, ""),
    ([("k", "load", -60), ("l", "load", 100)], 60, 100, "load meter 'k' reads -60 W: is it wired the other way?"),
]


@pytest.mark.parametrize(("meters", "produced_w", "consumed_w", "why"), BY_HAND)
def test_the_account_by_hand(meters, produced_w, consumed_w, why):
    made = account([(name, role, good(w)) for name, role, w in meters])
    assert (made.produced_w, made.consumed_w, made.quality) == (produced_w, consumed_w, "good")
    assert why in made.why
    assert bool(why) == bool(made.why)


meters_of_any_role = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(get_args(Role)), st.integers(-(10**7), 10**7)), min_size=1
)


@given(meters_of_any_role)
def test_produced_minus_consumed_is_the_net_to_the_watt(meters):
    made = account([(name, role, good(w)) for name, role, w in meters])
    grid = [w for _, role, w in meters if role == "grid"]
    net_w = -sum(grid) if grid else -sum(w for _, _, w in meters)
    assert made.produced_w is not None
    assert made.consumed_w is not None
    assert made.produced_w - made.consumed_w == net_w
    assert min(made.produced_w, made.consumed_w) >= 0


def test_no_meter_is_unknown_not_zero():
    assert account([]) == Account(None, None, "absent", "no meter configured")


@pytest.mark.parametrize(
    ("bad", "quality", "why"),
    [
        (absent("no answer"), "absent", "meter 'roof': no answer"),
        (Reading("suspect", "v_l1 reads 4e-08", {"w": 5}), "suspect", "meter 'roof': v_l1 reads 4e-08"),
        (Reading("late", "12 s old", {"w": 5}), "late", "meter 'roof': 12 s old"),
        (Reading("good", "", {"hz": 50.0}), "absent", "meter 'roof': gave no watts"),
    ],
)
def test_one_bad_meter_makes_the_account_unknown(bad, quality, why):
    assert account([("main", "grid", good(100)), ("roof", "pv", bad)]) == Account(None, None, quality, why)


def test_the_worst_quality_wins_and_all_reasons_are_told():
    made = account(
        [
            ("a", "grid", Reading("late", "old", {"w": 1})),
            ("b", "pv", absent("dead")),
            ("c", "pv", Reading("suspect", "odd", {"w": 1})),
        ]
    )
    assert made == Account(None, None, "absent", "meter 'a': old; meter 'b': dead; meter 'c': odd")


def test_a_dead_load_meter_spoils_the_account_only_without_a_grid_meter():
    dead = ("kitchen", "load", absent("dead"))
    assert account([("main", "grid", good(100)), dead]).consumed_w == 100
    assert account([("roof", "pv", good(-5)), dead]).produced_w is None


def test_flipping_turns_the_direction_and_nothing_else():
    values = {
        "w": -5,
        "w_l1": 3,
        "var": 7,
        "va": 9,
        "v_l1": 230.0,
        "a_l1": 1.5,
        "hz": 50.0,
        "pf": -0.9,
        "import_wh": 10,
        "export_wh": 20,
    }
    turned = flipped(Reading("suspect", "odd", values))
    assert turned.values == values | {"w": 5, "w_l1": -3, "var": -7, "import_wh": 20, "export_wh": 10}
    assert (turned.quality, turned.why) == ("suspect", "odd")


def test_flipping_a_lone_counter_moves_it():
    assert flipped(Reading("good", "", {"import_wh": 10})).values == {"export_wh": 10}


@given(st.dictionaries(st.sampled_from(QUANTITIES), st.integers(-(10**9), 10**9)))
def test_flipping_twice_is_the_same_reading(values):
    reading = Reading("good", "", values)
    assert flipped(flipped(reading)) == reading
