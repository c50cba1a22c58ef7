"""What edges.py tells others, and takes back from them when its own memory is lost."""

import json

import pytest
from metered_house import DAY, House, K

from agent import wire
from agent.decode import decode
from agent.edges import ROOM, Edges
from agent.growth import WMS


def test_a_record_is_one_of_the_wire_s_and_has_unknown_edges():
    house = House().run(400 + 450, power=True)
    house.run(900, silent=True).run(900, power=True)
    keys = house.edges.keys(DAY, "z")
    assert (keys["edges"], keys["import_wh"], keys["export_wh"]) == (0, [79, None, 258], [0, None, 0])
    payload = wire.encode(keys | {"version": 1})
    assert decode(wire.place(wire.node_topic("a", wire.energy_kind(DAY))), payload).day == DAY


@pytest.mark.parametrize("slot_s", [60, 300, 900, 3600])
def test_a_day_that_is_too_long_for_a_message_leaves_its_oldest_edges_out(slot_s):
    edges = Edges(10_000, slot_s)
    slots = 86_400 // slot_s
    edges.edges = {DAY * slots + number: (10**9 + number, 10**9) for number in range(slots + 1)}
    edges.flags = {DAY * slots + number: {"integrated"} for number in range(slots)}
    keys = edges.keys(DAY, "z")
    payload = wire.encode(keys | {"version": 1})
    assert len(payload) <= ROOM + 50
    energy = decode(wire.place(wire.node_topic("a", wire.energy_kind(DAY))), payload)
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
    return decode(place, json.dumps(keys | {"version": 1}).encode())


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
