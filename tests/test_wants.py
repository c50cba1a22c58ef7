"""What a node wanted and could have made at the slot edges: by hand, through gaps, restarts and clocks, then at random."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.decode import decode
from agent.edges import ROOM, Edges
from agent.growth import WMS
from agent.retold import merge
from agent.wants import CLOCK_S, JUMP_S, Kept, Wants

DAY = 20_000
K = DAY * 96
T = DAY * 86_400.0
STEP = 5.0


class House:
    """A node in an island that wants `watts[0]` and could make `watts[1]`; looked at every five seconds."""

    def __init__(self, unix_s=T - 400, watts=(720, 3600), slot_s=900):
        self.unix_s, self.now, self.watts, self.slot_s = unix_s, 5000.0, watts, slot_s
        self.clock_good, self.clock_off, self.fed, self.shed = True, 0.0, "", False
        self.wants = Wants(slot_s, 10.0)

    def run(self, seconds, known=True):
        for _ in range(int(seconds / STEP)):
            self.unix_s, self.now = self.unix_s + STEP, self.now + STEP
            watts = self.watts if known else None
            self.wants.sample(watts, self.fed, self.shed, self.unix_s + self.clock_off, self.clock_good, self.now)
        return self

    def rest(self, seconds):
        """Nobody looks."""
        self.unix_s, self.now = self.unix_s + seconds, self.now + seconds
        return self

    def restart(self, seconds, kept=None):
        self.rest(seconds)
        kept = msgspec.json.encode(kept or self.wants.kept())
        self.now, self.wants = 3.0, Wants(self.slot_s, 10.0)
        self.wants.load(msgspec.json.decode(kept, type=Kept))
        return self

    @property
    def edges(self):
        return {edge - K: both for edge, both in sorted(self.wants.edges.items())}

    def flags(self, slot):
        return set(self.wants.flags(K + slot, range(0, 2)).get(0, []))


def test_an_edge_lies_on_the_line_and_is_rounded_once():
    wants = Wants(900, 10.0)
    wants.sample((3600, 0), "", False, T - 3, True, 700.0)
    assert wants.edges == {}
    wants.sample((7200, 1801), "", False, T + 1, True, 704.0)  # 3 s of 3600 W are 3 Wh
    assert wants.edges == {K: (3, 0)}
    assert (wants.wanted_wms, wants.avail_wms) == (4 * WMS, 0)
    wants.sample((0, 0), "", False, T + 2, True, 705.0)
    assert (wants.wanted_wms, wants.avail_wms) == (6 * WMS, 1801 * 1000)


def test_a_day_by_hand():
    house = House().run(400 + 2 * 900 + 5)
    # 720 W are 180 Wh a slot and 80 Wh up to midnight, less the 5 s before the first look: 79
    assert house.edges == {0: (79, 395), 1: (259, 1295), 2: (439, 2195)}
    assert house.flags(0) == house.flags(1) == set()
    house.watts = (7200, 0)
    house.run(895)
    assert house.edges[3] == (439 + 1 + 1 + 1780, 2195 + 5 + 5)  # the last look before the change holds for 5 s more
    assert house.wants.keys(K, range(0, 3)) == {"wanted_wh": [79, 259, 439], "avail_wh": [395, 1295, 2195]}


def test_what_is_not_known_is_no_zero():
    house = House().run(400).run(450).run(600, known=False).run(900)
    assert list(house.edges) == [0, 2]
    # 455 s and 745 s of the half hour are known
    assert house.wants.keys(K, range(0, 3)) == {"wanted_wh": [79, None, 79 + 91 + 149], "avail_wh": [395, None, 1595]}
    assert house.flags(1) == set()  # an edge says it
    house = House().run(400 + 100).run(90, known=False).run(900)
    assert house.edges[1] == (79 + 180 - 18, 395 + 900 - 90)
    assert house.flags(0) == set()  # a tenth of the slot is not missed
    house = House().run(400 + 100).run(100, known=False).run(900)
    assert (list(house.edges), house.flags(0)) == ([0, 1], {"unseen"})
    assert House().run(400, known=False).wants.keys(K, range(0, 2)) == {}


def test_a_restart_goes_on_and_a_power_cut_is_a_gap():
    house = House().run(400 + 450).restart(20)
    house.now = CLOCK_S
    house.run(900)
    assert house.edges == {0: (79, 395), 1: (259 - 5, 1295 - 25)}  # 25 s until the second look
    assert house.flags(0) == set()
    house.run(600).restart(200)
    house.now = CLOCK_S
    house.run(1800)
    assert [house.flags(slot) for slot in (1, 2, 3)] == [set(), {"unseen"}, set()]


def test_after_a_boot_the_clock_is_waited_for():
    house = House().run(400 + 450)
    house.clock_good, house.clock_off = False, -7200.0
    house.restart(20).run(CLOCK_S / 2)
    assert list(house.edges) == [0]
    house.clock_good, house.clock_off = True, 0.0
    house.run(900)
    assert list(house.edges) == [0, 1]
    house.clock_good, house.clock_off = False, 0.0
    house.restart(10).run(CLOCK_S - 10)
    house.shed, house.fed = True, "generator"
    assert list(house.edges) == [0, 1]
    house.run(3600)
    assert sorted(house.edges)[-1] == 6
    assert house.flags(3) == {"shed"}


def test_a_clock_set_forward_and_back_over_an_edge():
    house = House().run(390)
    house.clock_off = JUMP_S
    house.run(100)
    assert house.edges == {0: (77, 385)}  # at the moment of the jump
    house = House().run(390)
    house.clock_off = JUMP_S + 20
    house.run(100)
    assert house.edges == {}
    house = House().run(390)
    house.fed, house.shed = "generator", True
    house.run(20)
    assert (list(house.edges), house.wants.shed, house.wants.feeder[K]) == ([0], {K - 1, K}, "generator")
    house.clock_off = -60.0
    house.run(5)
    assert (house.edges, house.wants.shed, list(house.wants.feeder)) == ({}, {K - 1}, [K - 1])
    house.run(100)
    assert list(house.edges) == [0]


def test_two_days_are_kept():
    house = House(slot_s=3600)
    house.fed = "generator"
    house.run(3 * 86_400)
    first = (DAY + 1) * 24
    wants = house.wants
    assert min(wants.edges) == min(wants.feeder) == min(wants.seen_ms) == first
    house.clock_good = False
    house.run(6 * 86_400)
    assert len(wants.edges) <= 4 * 24 + 1


def test_the_feeder_of_a_slot_is_what_it_was_all_the_time():
    house = House()
    house.fed = "generator"
    house.run(400 + 900 + 450)
    house.fed = "grid"
    house.run(900)
    house.fed = ""
    house.run(1800)
    assert {slot - K: fed for slot, fed in house.wants.feeder.items()} == {-1: "generator", 0: "generator", 1: "", 2: ""}
    house.wants.feeder |= {K + 3: "grid", K + 4: "grid"}
    assert house.wants.keys(K, range(0, 6))["feeder"] == {0: "generator", 1: "", 3: "grid"}
    assert house.wants.keys(K, range(4, 6))["feeder"] == {4: "grid"}
    assert "feeder" not in house.wants.keys(K, range(0, 1))


def test_another_length_of_slots():
    house = House()
    house.fed = "generator"
    house.run(400 + 450)
    house.shed = True
    house.run(450)
    house.shed = False
    house.fed = "grid"
    house.run(900)
    wants = house.wants
    wants.reslot(1800)
    assert wants.edges == {K // 2: (79, 395), K // 2 + 1: (439, 2195)}
    assert wants.shed == {K // 2}
    assert wants.feeder == {K // 2 - 1: "generator", K // 2: "", K // 2 + 1: "grid"}
    assert wants.flags(K // 2, range(0, 2)) == {0: ["shed"]}
    wants.reslot(900)
    assert wants.edges == {K: (79, 395), K + 2: (439, 2195)}
    assert wants.flags(K, range(0, 2)) == {0: ["shed"]}


# in the record


def record(keys):
    place = wire.place(wire.node_topic("a", wire.energy_kind(keys["day"])))
    return decode(place, wire.encode(keys | {"version": 1}))


class Both(House):
    """With the other registers."""

    def __init__(self, **more):
        super().__init__(**more)
        self.energy = Edges(10_000, self.slot_s)
        self.wants = self.energy.wants

    def run(self, seconds, known=True):
        for _ in range(int(seconds / STEP)):
            super().run(STEP, known)
            self.energy.sample({"m": (int(self.now * 2), 0)}, None, self.unix_s, self.clock_good, self.now)
        return self


def test_the_record_carries_them_beside_the_others_and_so_does_the_dump():
    house = Both()
    house.fed, house.shed = "generator", True
    house.run(400 + 900)
    house.shed = False
    house.run(900 + 100)
    keys = house.energy.keys(DAY, "z")
    assert (keys["wanted_wh"], keys["avail_wh"], keys["feeder"]) == ([79, 259, 439], [395, 1295, 2195], {0: "generator"})
    assert keys["flags"] == {0: "shed"} | ({1: "shed"} if K + 1 in house.wants.shed else {})
    assert record(keys).wanted_wh == [79, 259, 439]
    again = Edges(10_000, 900)
    again.load(house.energy.dump())
    assert again.keys(DAY, "z") == keys
    again = Edges(10_000, 1800)
    again.load(house.energy.dump())
    assert again.keys(DAY, "z")["wanted_wh"] == [79, 439]
    old = json.loads(house.energy.dump())
    del old["wants"]  # of a version before
    again = Edges(10_000, 900)
    again.load(json.dumps(old).encode())
    assert again.keys(DAY, "z")["import_wh"] == keys["import_wh"]
    assert "wanted_wh" not in again.keys(DAY, "z")


def test_a_record_of_no_island_has_none_of_it():
    house = Both()
    keys = house.run(3000, known=False).energy.keys(DAY, "z")
    assert {"wanted_wh", "avail_wh", "feeder"} & keys.keys() == set()


@pytest.mark.parametrize("slot_s", [60, 300, 900])
def test_a_long_day_has_room_all_the_same(slot_s):
    edges, slots = Edges(10_000, slot_s), 86_400 // slot_s
    edges.edges = {DAY * slots + number: (10**9 + number, 10**9) for number in range(slots + 1)}
    edges.wants.edges = {DAY * slots + number: (10**9 + number, 10**9) for number in range(slots + 1)}
    keys = edges.keys(DAY, "z")
    assert len(wire.encode(keys)) <= ROOM
    assert keys["edges"] + len(keys["import_wh"]) == slots + 1
    assert (keys["edges"] == 0) == (slot_s >= 900)
    assert record(keys).edges == keys["edges"]


def test_a_lost_memory_takes_them_back_and_goes_on_above():
    house = Both()
    house.fed, house.shed = "generator", True
    house.run(400 + 2 * 900 + 20)
    house.shed = False
    told = record(house.energy.keys(DAY, "z"))
    house.energy = Edges(10_000, 900)
    house.wants = house.energy.wants
    house.run(905)
    assert house.edges == {3: (175, 875)}
    assert house.energy.learn(told) == [DAY - 1, DAY]
    assert house.energy.learn(told) == []
    assert house.edges == {0: (79, 395), 1: (259, 1295), 2: (439, 2195), 3: (439, 2195)}
    assert house.wants.feeder == {K + slot: "generator" for slot in range(4)}
    assert (house.flags(0), house.flags(1), house.flags(2)) == ({"shed"}, {"shed"}, {"unseen"})
    house.run(895)
    assert house.edges[4][0] - house.edges[3][0] == 180
    assert house.energy.keys(DAY, "z")["flags"][0] == "shed"


def test_learning_when_only_these_are_new_or_none_can_be():
    house = Both()
    house.run(400 + 2 * 900 + 20)
    told = record(house.energy.keys(DAY, "z") | {"flags": {0: "unseen"}})
    house.energy.wants = house.wants = Wants(900, 10.0)
    assert house.energy.learn(told) == [DAY - 1, DAY]
    assert house.edges == {0: (79, 395), 1: (259, 1295), 2: (439, 2195)}
    assert (house.flags(0), house.flags(1)) == ({"unseen"}, set())
    assert house.wants.wanted_wms == 439 * WMS
    assert Wants(300, 10.0).learn(told) == set()
    house.wants.edges = {K + 1: (9000, 9000)}
    assert house.wants.learn(told) == {K}  # the rest would fall
    assert house.flags(1) == set()


pairs = st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8)


def rising(found):
    return all(a <= b for e, f in pairwise(sorted(found)) for a, b in zip(found[e], found[f], strict=True))


@given(pairs, pairs)
def test_nothing_falls_whatever_was_told(own, told):
    climbed, high = {}, (0, 0)
    for edge in sorted(own):  # our own only grow
        climbed[edge] = high = (high[0] + own[edge][0], high[1] + own[edge][1])
    merged = merge(climbed, told, high)
    assert rising(merged.edges)
    assert climbed.keys() <= merged.edges.keys()
    assert merged.taken == merged.edges.keys() - climbed.keys()
    present = high[0] + merged.lift[0], high[1] + merged.lift[1]
    assert all(a >= b for at in merged.edges.values() for a, b in zip(present, at, strict=True))
    if not told:
        assert merged == (climbed, (0, 0), set(), set())


happenings = st.lists(
    st.tuples(st.sampled_from(["run", "rest", "none", "restart", "lie", "turn"]), st.integers(1, 300)), max_size=14
)


@given(happenings)
def test_whatever_happens_they_never_fall_and_hold_no_more_than_was_there(happened):
    house = House()
    house.fed = "generator"
    began_s = house.unix_s
    for what, much in happened:
        match what:
            case "run":
                house.run(STEP * much)
            case "rest":
                house.rest(STEP * much)
            case "none":
                house.run(STEP * (much // 30), known=False)
            case "restart":
                house.restart(much)
            case "lie":
                house.clock_off = STEP * (much - 150)
                house.run(3 * STEP)
                house.clock_off = 0.0
            case "turn":
                house.watts = (house.watts[1], house.watts[0])
    house.run(1800)
    assert rising(house.wants.edges)
    most = 3600 * (house.unix_s - began_s) / 3600
    assert all(wh <= most for both in house.wants.edges.values() for wh in both)
    assert max(house.wants.edges) <= house.unix_s // 900
    if not {"lie", "restart"} & {what for what, _ in happened}:
        for slot in range(K, max(house.wants.edges)):
            if slot in house.wants.edges and slot + 1 in house.wants.edges and not house.flags(slot - K):
                made = sum(house.wants.edges[slot + 1]) - sum(house.wants.edges[slot])
                assert 0.9 * 1080 - 12 <= made <= 1082  # 720 + 3600 W
