"""A node's registers at the slot edges: by hand, through every fault of a meter, a clock or the power, then at random."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import wire
from agent.edges import CLOCK_S, ROOM, Edges
from agent.growth import CONFIRM_S, HANDOVER_S, WMS, counters
from drivers.reading import Reading, absent

DAY = 20_000
K = DAY * 96  # the day's first slot of 15 minutes
T = DAY * 86_400.0  # and its moment
STEP = 5.0  # seconds between two looks at the meters


class House:
    """A node with one grid meter that counts `watts` (+ = import) all the time, and whatever the tests do to it."""

    def __init__(self, unix_s=T - 400, watts=720, at=(10_000, 500), slot_s=900, rated_w=1000):
        self.unix_s, self.now, self.watts, self.slot_s, self.rated_w = unix_s, 50.0, watts, slot_s, rated_w
        self.ws = [at[0] * 3600, at[1] * 3600]
        self.clock_good, self.clock_off = True, 0.0
        self.edges = Edges(rated_w, slot_s)
        self.kept = self.edges.dump()
        self.days = []

    @property
    def meter(self):
        return {"m": (int(self.ws[0] // 3600), int(self.ws[1] // 3600))}

    def pass_s(self, seconds):
        """Time goes by, and nobody looks."""
        self.unix_s, self.now = self.unix_s + seconds, self.now + seconds
        self.ws[0 if self.watts > 0 else 1] += abs(self.watts) * seconds

    def look(self, counted="", net_w=None):
        counted = self.meter if counted == "" else counted
        days = self.edges.sample(counted, net_w, self.unix_s + self.clock_off, self.clock_good, self.now)
        self.days += days
        if days:
            self.kept = self.edges.dump()

    def run(self, seconds, power=False, silent=False):
        """Look at the meters every five seconds; `power`: they have no counters."""
        for _ in range(int(seconds / STEP)):
            self.pass_s(STEP)
            self.look(*([None, None] if silent else [None, -self.watts] if power else [""]))
        return self

    def power_cut(self, seconds, kept=None):
        """The agent ends without a word and starts again with what it kept last."""
        self.pass_s(seconds)
        self.now = 3.0
        self.edges = Edges(self.rated_w, self.slot_s)
        self.edges.load(self.kept if kept is None else kept)
        return self

    @property
    def flags(self):
        return {slot - K: " ".join(sorted(why)) for slot, why in sorted(self.edges.flags.items())}

    @property
    def imports(self):
        return {edge - K: import_wh for edge, (import_wh, _) in sorted(self.edges.edges.items())}


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


def test_edges_by_a_clock_that_is_not_known_good_say_so():
    house = House()
    house.clock_good = False
    house.run(400 + 900 + 50)
    house.clock_good = True
    house.run(900)
    assert house.flags == {-1: "clock", 0: "clock", 1: "clock"}
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}


def test_after_a_power_cut_the_clock_is_waited_for():
    house = House().run(400 + 450)
    house.clock_good, house.clock_off = False, -1000.0
    house.power_cut(3 * 900).run(60)
    assert list(house.imports) == [0]
    house.clock_off = -30 * 60  # later than all that was kept, and wrong all the same
    house.run(60)
    assert list(house.imports) == [0]
    house.clock_good, house.clock_off = True, 0.0
    house.run(900)
    assert house.imports == {edge: 10_080 + 180 * edge for edge in range(5)}
    assert house.flags == {0: "partial", 1: "partial", 2: "partial", 3: "partial"}


def test_a_clock_that_never_comes_good_is_taken_as_it_is_in_the_end():
    house = House().run(400 + 450)
    house.clock_good = False
    house.power_cut(100).run(CLOCK_S + 900)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}
    assert house.flags == {0: "clock partial", 1: "clock partial", 2: "clock"}


def test_an_agent_that_starts_again_on_a_machine_long_awake_waits_for_no_clock():
    house = House().run(400 + 450)
    house.clock_good = False
    house.power_cut(100)
    house.now = CLOCK_S
    house.run(900)
    assert list(house.imports) == [0, 1]


def test_a_clock_that_was_ahead_loses_its_edges_and_no_energy():
    house = House()
    house.clock_good, house.clock_off = False, 7200.0
    house.run(400 + 450)
    assert list(house.imports) == [8]
    house.clock_good, house.clock_off = True, 0.0
    house.run(900)
    assert house.imports == {1: 10_260}
    house.run(900)
    assert house.imports == {1: 10_260, 2: 10_440}


def test_a_clock_set_forward_over_an_edge():
    house = House().run(390)
    house.clock_off = 15.0
    house.run(900)
    assert house.imports == {0: 10_078, 1: 10_257}  # 10 s and 15 s short: 10_258 and 10_257
    assert house.flags == {-1: "clock", 0: "clock"}
    house = House().run(390)
    house.clock_off = 75.0
    house.run(900)
    assert house.imports == {1: 10_245}


def test_a_kept_time_in_the_future_is_let_go():
    house = House()
    house.clock_off = 7200.0
    house.run(400 + 450)
    house.clock_off = 0.0
    house.power_cut(100).run(900)
    assert house.imports == {1: 10_260}


def test_a_good_clock_set_back_over_an_edge_notes_it_anew():
    house = House().run(400 + 20)
    assert house.imports == {0: 10_080}
    house.clock_off = -60.0
    house.run(1800)
    assert house.imports == {0: 10_080 + 12, 1: 10_260 + 12}
    assert house.flags == {}


def test_a_bad_clock_set_back_over_an_edge_is_no_clock():
    house = House().run(400 + 20)
    house.clock_good, house.clock_off = False, -60.0
    house.run(60)
    assert house.imports == {0: 10_080}
    house.run(1800)
    assert house.imports == {0: 10_080, 1: 10_260 + 12, 2: 10_440 + 12}
    assert house.flags == {0: "clock", 1: "clock", 2: "clock"}


def test_an_old_date_without_end_fills_no_memory():
    house = House(slot_s=3600)
    house.clock_good = False
    for _ in range(200):
        house.pass_s(3600)
        house.look()
    assert len(house.edges.edges) <= 4 * 24 + 1
    house.clock_good = True
    house.pass_s(3600)
    house.look()
    assert len(house.edges.edges) <= 48


# the record


def test_a_record_is_one_of_the_wire_s_and_has_unknown_edges():
    house = House().run(400 + 450, power=True)
    house.run(900, silent=True).run(900, power=True)
    keys = house.edges.keys(DAY, "z")
    assert (keys["edges"], keys["import_wh"], keys["export_wh"]) == (0, [79, None, 258], [0, None, 0])
    payload = wire.encode(keys | {"version": 1})
    assert wire.decode(wire.place(wire.node_topic("a", wire.energy_kind(DAY))), payload).day == DAY


@pytest.mark.parametrize("slot_s", [60, 300, 900, 3600])
def test_a_day_that_is_too_long_for_a_message_leaves_its_oldest_edges_out(slot_s):
    edges = Edges(10_000, slot_s)
    slots = 86_400 // slot_s
    edges.edges = {DAY * slots + number: (10**9 + number, 10**9) for number in range(slots + 1)}
    edges.flags = {DAY * slots + number: {"integrated"} for number in range(slots)}
    keys = edges.keys(DAY, "z")
    payload = wire.encode(keys | {"version": 1})
    assert len(payload) <= ROOM + 50
    energy = wire.decode(wire.place(wire.node_topic("a", wire.energy_kind(DAY))), payload)
    assert energy.edges + len(energy.import_wh) == slots + 1  # up to midnight
    assert len(energy.flags) == len(energy.import_wh) - 1
    assert (energy.edges == 0) == (slot_s >= 300)
    assert len(energy.import_wh) >= 361 or slot_s > 60  # six hours of minutes at the worst


def test_another_length_of_slots_keeps_the_edges_that_both_have():
    house = House().run(400 + 3 * 900)
    house.edges.flags = {K: {"partial"}, K + 2: {"clock"}}
    house.edges.reslot(900)
    assert list(house.imports) == [0, 1, 2, 3]
    house.edges.reslot(1800)
    assert house.edges.edges == {K // 2: (10_080, 500), K // 2 + 1: (10_440, 500)}
    assert house.edges.flags == {K // 2: {"partial"}, K // 2 + 1: {"clock"}}
    house.edges.reslot(300)
    assert house.edges.edges == {K * 3: (10_080, 500), K * 3 + 6: (10_440, 500)}
    assert sorted(house.edges.flags) == list(range(K * 3, K * 3 + 12))
    again = Edges(1000, 1800)
    again.load(house.edges.dump())
    assert again.slot_s == 1800
    assert again.edges == {K // 2: (10_080, 500), K // 2 + 1: (10_440, 500)}


# what an earlier life told


def told(keys):
    place = wire.place(wire.node_topic("a", wire.energy_kind(keys["day"])))
    return wire.decode(place, json.dumps(keys | {"version": 1}).encode())


def test_a_lost_memory_takes_its_edges_back():
    house = House().run(400 + 3 * 900 + 20)
    house.edges.flags[K + 1] = {"partial"}
    record = told(house.edges.keys(DAY, "z"))
    house.edges = Edges(1000, 900)
    assert house.edges.learn(record) == [DAY - 1, DAY]
    assert house.edges.learn(record) == []
    house.run(900)
    assert house.imports == {edge: 10_080 + 180 * edge for edge in range(5)}
    assert house.flags == {1: "partial", 3: "partial"}  # whether the meter is the same nobody can tell


def test_a_lost_memory_without_counters_goes_on_above_what_it_told():
    house = House().run(400 + 2 * 900 + 20, power=True)
    record = told(house.edges.keys(DAY, "z"))
    house.edges = Edges(1000, 900)
    house.run(900, power=True)
    assert house.imports == {3: 175}
    assert house.edges.learn(record) == [DAY - 1, DAY]
    assert house.imports[3] == house.imports[2] == 439
    assert "partial" in house.flags[2]
    house.run(900, power=True)
    assert house.imports[4] - house.imports[3] == 180
    assert house.edges.growth.import_wms // WMS >= house.imports[4]


def test_what_it_told_of_other_slots_or_out_of_order_is_not_taken():
    edges = Edges(1000, 900)
    edges.edges = {K + 1: (100, 0)}
    edges.growth.import_wms = 200 * WMS
    record = {"day": DAY, "edges": 0, "zone": "z", "import_wh": [50, 70, 300, 90], "export_wh": [0, 0, 0, 0]}
    assert edges.learn(told(record | {"slot_s": 300})) == []
    assert edges.learn(told(record | {"slot_s": 900})) == [DAY - 1, DAY]
    assert edges.edges == {K: (50, 0), K + 1: (100, 0), K + 2: (300, 0)}  # our own 100 stays, 90 would fall
    assert edges.growth.import_wms == 300 * WMS
    assert edges.flags == {K + 2: {"partial"}}


# all at random

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
