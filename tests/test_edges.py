"""edges.py: registers at the slot edges, through restarts, power cuts, failing meters and clocks."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metered_house import DAY, STEP, House, K, T

from agent.edges import Edges
from agent.growth import CONFIRM_S, HANDOVER_S, WMS, counters
from drivers.reading import Reading, absent


def test_an_edge_lies_on_the_line_between_two_readings():
    edges = Edges(10_000, 900)
    assert edges.sample({"m": (1000, 50)}, None, T - 3, True, 7.0) == [DAY - 1]
    assert edges.keys(DAY - 1, "z") is edges.keys(DAY, "z") is None
    assert edges.sample({"m": (1004, 58)}, None, T + 1, True, 11.0) == [DAY - 1, DAY]  # midnight stands in both days
    assert edges.edges == {K: (1003, 56)}  # three quarters of the way
    assert edges.sample({"m": (1009, 58)}, None, T + 5, True, 15.0) == []
    assert edges.keys(DAY, "z") == {
        "day": DAY,
        "slot_s": 900,
        "edges": 0,
        "import_wh": [1003],
        "export_wh": [56],
        "flags": {},
        "zone": "z",
        "rated_w": 10_000,
    }
    assert edges.keys(DAY - 1, "z")["edges"] == 96


def test_a_day_by_counters():
    house = House().run(400 + 3 * 900 + 100)
    # 720 W are 180 Wh a slot and 80 Wh up to midnight
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440, 3: 10_620}
    assert (house.flags, house.days) == ({}, [DAY - 1, DAY - 1, DAY, DAY, DAY, DAY])
    house.watts = -360
    house.run(900)
    assert house.edges.edges[K + 4] == (10_620 + 20, 500 + 80)  # 100 s of 720 W, 800 s of -360 W


def test_meters_add_and_only_those_at_the_grid():
    good = Reading("good", "", {"w": 5, "import_wh": 7, "export_wh": 1})
    assert counters([("a", "grid", good), ("b", "grid", good), ("c", "pv", good)]) == {"a": (7, 1), "b": (7, 1)}
    assert counters([("a", "grid", good), ("b", "load", absent("x"))]) == {"a": (7, 1)}
    assert counters([("c", "pv", good)]) is None
    assert counters([]) is None
    assert counters([("a", "grid", good), ("b", "grid", absent("x"))]) is None
    assert counters([("a", "grid", Reading("good", "", {"w": 5, "import_wh": 7}))]) is None
    assert counters([("a", "grid", Reading("suspect", "?", good.values))]) is None
    edges = Edges(10_000, 900)
    edges.sample({"a": (10, 1), "b": (5, 2)}, None, T - 2, True, 0.0)
    edges.sample({"a": (12, 1), "b": (7, 4)}, None, T, True, 2.0)
    assert edges.edges == {K: (19, 5)}


# restarts and power cuts


def test_a_restart_in_a_slot_loses_nothing_and_flags_nothing():
    house = House().run(400 + 450)
    house.power_cut(200).run(600)
    assert house.imports == {0: 10_080, 1: 10_260}
    assert house.flags == {}


def test_edges_of_a_power_cut_lie_on_the_counters_line_and_say_so():
    house = House().run(400 + 450)
    house.power_cut(2 * 900).run(900)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440, 3: 10_620}
    assert house.flags == {0: "partial", 1: "partial", 2: "partial"}


def test_a_power_cut_after_a_disk_that_kept_nothing_for_hours_counts_nothing_twice():
    house = House().run(400 + 50)
    old = house.kept
    house.run(4 * 900)
    before = dict(house.edges.edges)
    house.power_cut(30, kept=old).run(900)
    assert all(house.edges.edges[edge] == at for edge, at in before.items())
    assert house.imports[5] == 10_080 + 5 * 180


def test_a_cut_longer_than_a_day_leaves_its_edges_open_but_not_its_energy():
    house = House().run(400 + 450)
    house.power_cut(86_400 + 500).run(900)
    assert house.imports == {0: 10_080, 98: 10_080 + 98 * 180}
    assert house.flags == {97: "partial"}


def test_a_slot_before_the_first_reading_is_not_known():
    house = House(unix_s=T + 450).run(1800)
    assert list(house.imports) == [1, 2]


def test_what_is_no_dump():
    edges = Edges(1000, 900)
    for data in (b"", b"[]", b'{"slot_s":900}', b'{"slot_s":900,"unix_s":"x"}'):
        with pytest.raises(msgspec.DecodeError):
            edges.load(data)
    edges.load(Edges(1000, 900).dump())
    assert edges.sample({"m": (1, 2)}, None, T, True, 0.0) == [DAY - 1, DAY]


# meters that fail


def test_a_meter_that_is_silent_over_an_edge():
    house = House().run(400 + 890)
    house.run(60, silent=True).run(900)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}
    assert house.flags == {0: "partial", 1: "partial"}


@pytest.mark.parametrize("wrong", [(0, 0), (10_000, 0), (10_400, 400), (53_700_000, 500), (10_100, 53_700_000)])
def test_one_wrong_reading_is_held_and_flagged(wrong):
    house = House().run(400 + 445)
    house.pass_s(STEP)
    house.look({"m": wrong})
    house.run(1800)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}
    assert house.flags == {0: "counter"}


def test_a_new_meter_is_believed_after_a_while_and_the_registers_go_on():
    house = House().run(400 + 450)  # 10_170
    house.ws = [0, 0]
    house.run(CONFIRM_S - STEP)
    assert house.flags == {}
    house.run(2 * STEP).run(900)
    # 300 s of 720 W, 60 Wh, are lost with the change
    assert house.imports == {0: 10_080, 1: 10_260 - 60 - 1}
    assert house.flags == {0: "counter partial"}


def test_wrong_readings_that_do_not_go_on_from_one_another_are_never_believed():
    house = House().run(400 + 450)
    for number in range(200):
        house.pass_s(STEP)
        house.look({"m": (number % 2 * 90_000_000, 0)})
    house.run(900)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}
    assert house.flags == {0: "counter partial", 1: "counter partial"}


def test_a_meter_with_another_name_begins_anew_and_one_that_stays_counts_on():
    edges = Edges(10_000, 900)
    edges.sample({"a": (10, 0), "b": (5, 0)}, None, T - 4, True, 0.0)
    edges.sample({"a": (12, 0), "c": (9000, 0)}, None, T - 2, True, 2.0)
    edges.sample({"a": (13, 0), "c": (9003, 0)}, None, T, True, 4.0)
    assert edges.edges == {K: (15 + 2 + 1 + 3, 0)}
    assert edges.flags == {K - 1: {"counter"}}  # from the mark to the moment it was seen


# no counters


def test_power_is_added_up_where_a_meter_does_not_count():
    house = House()
    house.run(400 + 900 + 5, power=True)
    # the first five seconds before the first look are not known
    assert house.imports == {0: 79, 1: 259}
    assert house.flags == {-1: "integrated", 0: "integrated", 1: "integrated"}
    house.watts = -720
    house.run(895, power=True)
    assert house.edges.edges[K + 2] == (261, 178)  # 5 s after the edge, and the last look before the turn held for 5 s more


def test_power_that_was_not_heard_is_open_not_zero():
    house = House().run(450, power=True)
    house.run(300, silent=True).run(700, power=True)
    assert house.imports[1] - house.imports[0] == 180 - 61
    assert house.flags[0] == "integrated partial"
    house.run(650, power=True).run(300, silent=True).run(900, power=True)
    assert list(house.imports) == [0, 1, 3]  # edge 2 lay in the silence
    assert house.edges.keys(DAY, "z")["import_wh"][2] is None
    assert house.flags[1] == house.flags[2] == "integrated partial"


def test_a_restart_without_counters_loses_the_slot_s_beginning_and_says_so():
    house = House().run(400 + 450, power=True)
    house.power_cut(60).run(400, power=True)
    assert house.flags[0] == "integrated partial"
    assert house.imports[1] - house.imports[0] == 180 - 103  # from midnight to the restart


def test_counters_that_are_gone_are_waited_for_and_then_power_takes_over_and_back():
    house = House().run(400 + 450)
    house.run(HANDOVER_S - STEP, power=True)
    assert list(house.imports) == [0]
    house.run(1800, power=True)
    assert (4 in house.imports, 5 in house.imports) == (False, True)
    assert house.imports[6] - house.imports[5] == 180
    house.run(900)
    assert all(0 <= house.imports[edge + 1] - house.imports[edge] <= 181 for edge in (5, 6))
    assert "counter" in house.flags[6]
    house.run(900)
    assert house.imports[8] - house.imports[7] == 180
    assert 7 not in house.flags


# clocks that lie


faults = st.lists(
    st.tuples(st.sampled_from(["run", "silent", "cut", "old cut", "zero", "leap", "lie", "turn"]), st.integers(1, 400)), max_size=14
)


@settings(max_examples=60)
@given(faults)
def test_whatever_happens_registers_are_the_meter_s_and_never_fall(happened):
    house = House(unix_s=T - 300, rated_w=2000)
    truth = {}  # by edge what the meter showed then, in Wh

    def passing(seconds, look=True):
        left = seconds
        while left > 0:
            edge = int(house.unix_s // 900) + 1
            part = min(left, edge * 900 - house.unix_s)
            house.pass_s(part)
            left -= part
            if house.unix_s == edge * 900:
                truth[edge] = house.meter["m"]
            if look and left <= 0:
                house.look()

    passing(5)
    old = house.kept
    for fault, much in happened:
        match fault:
            case "run":
                for _ in range(much // 20):
                    passing(5)
            case "silent":
                passing(5 * much, look=False)
            case "cut" | "old cut":
                passing(much, look=False)
                house.power_cut(0, kept=old if fault == "old cut" else None)
            case "zero":
                passing(5, look=False)
                house.look({"m": (0, 0)})
            case "leap":
                passing(5, look=False)
                house.look({"m": (10**8, 10**8)})
            case "lie":
                house.clock_good, house.clock_off = False, -10.0 * much
                passing(5)
                house.clock_good, house.clock_off = True, 0.0
            case "turn":
                house.watts = -house.watts
        if not house.edges.edges:
            old = house.kept
    passing(5)
    passing(5)
    known = sorted(house.edges.edges)
    assert all(a <= b for e, f in pairwise(known) for a, b in zip(house.edges.edges[e], house.edges.edges[f], strict=True))
    assert (house.edges.growth.import_wms // WMS, house.edges.growth.export_wms // WMS) == house.meter["m"]
    assert set(known) <= truth.keys()
    if "lie" not in {fault for fault, _ in happened}:
        assert known == sorted(truth)  # counters bridge every gap of less than a day
    for edge in known:
        if not {"partial", "clock"} & (house.edges.flags.get(edge, set()) | house.edges.flags.get(edge - 1, set())):
            assert all(abs(ours - true) <= 1 for ours, true in zip(house.edges.edges[edge], truth[edge], strict=True))
