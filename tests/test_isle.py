"""Slots of an electrical island: which are and which are not, by hand; then a village on a generator, from meters to accounts."""

import json
from dataclasses import replace

import msgspec
import pytest
from desk import Desk
from fleet import TARIFF, UNIX_S, Fleet

from agent import loads, slots, wire
from agent.accounts import entries, replay, settle
from agent.audit import audit
from agent.events import Metered
from agent.isle import Island, Want, isle
from agent.offer import Battery, Feeder
from agent.own import MeterSlot
from agent.switches import Load
from drivers.reading import Reading

GEN, HOUSE = Want(5, 60, "generator", False), Want(40, 0, "", False)
USES = {"gen": (0, 30), "house": (30, 0)}

BY_HAND = [
    (USES, {"gen": GEN, "house": HOUSE}, Island(45, 60, False)),
    (USES, {"gen": GEN}, Island(35, 60, False)),  # the house wanted what it took
    (USES, {"gen": GEN, "house": HOUSE._replace(shed=True)}, Island(45, 60, True)),
    (USES, {"gen": GEN, "house": HOUSE._replace(wanted_wh=55)}, Island(60, 60, False)),
    (USES, {"gen": GEN, "house": HOUSE._replace(wanted_wh=56)}, Island(61, 60, True)),
    (USES, {"gen": GEN, "house": HOUSE, "other": HOUSE}, Island(45, 60, False)),  # its part does not count
    (USES | {"old": (7, 9)}, {"gen": GEN, "house": HOUSE}, Island(52, 69, False)),
    (USES, {"gen": GEN, "house": GEN}, Island(10, 120, False)),  # two generators
    (USES, {}, None),
    (USES, {"house": HOUSE}, None),
    (USES, {"gen": GEN, "house": HOUSE._replace(feeder="grid")}, None),
    (USES, {"gen": GEN._replace(feeder="")}, None),
    (USES, {"gen": GEN._replace(wanted_wh=None, avail_wh=None), "house": HOUSE}, None),
    ({"house": (30, 0)}, {"gen": GEN, "house": HOUSE}, None),
    ({}, {}, None),
]


@pytest.mark.parametrize(("uses", "wants", "island"), BY_HAND)
def test_by_hand(uses, wants, island):
    assert isle(uses, wants) == island
    assert isle(dict(reversed(uses.items())), dict(reversed(wants.items()))) == island


# a village

MINUTE = msgspec.structs.replace(TARIFF, slot_s=60)
SET, MAIN = MeterSlot("set", "generator", 1.0), MeterSlot("main", "grid", 1.0)
HEATER = Load("heater", 3, 2000)
HOUSES = ("ash", "elm", "fir", "oak")
FIRST = int(UNIX_S // 60) + 1
KIND = wire.energy_kind(FIRST * 60 // 86_400)


class Village(Fleet):
    """Four houses of 1000 W, of which ash has a relay that heats with 2000 W more, on the generator of the mill."""

    def grow(self, limit_w=10_000):
        self.wired, self.base_w = self.flow, 1000
        self.add("mill", rated_w=12_000, tariff=MINUTE, meters=(SET,), feeder=Feeder("set", "generator", limit_w))
        for id_ in HOUSES:
            self.add(id_, tariff=MINUTE, loads=(HEATER,) if id_ == "ash" else ())
        self.run(2.0)
        ring = ["mill", *HOUSES]
        self.join(list(zip(ring, ring[1:] + ring[:1], strict=True)))
        return self

    def flow(self):
        for id_ in HOUSES:
            card = self.cards[id_]
            heats = id_ == "ash" and (card.node is None or card.relays.get("heater", True))
            card.w = self.base_w + (2000 if heats else 0)
        self.cards["mill"].w = None
        self.cards["mill"].more = {"set": {"w": -sum(self.cards[id_].w for id_ in HOUSES)}}

    def digests(self, slot):
        return {card.node.settlement.heads[slot].digest for card in self.cards.values()}

    def newest(self, slot):
        """What everybody settled last of a slot: the same."""
        (digest,) = self.digests(slot)
        rows = [max((r for r in card.ledger if r.slot == slot), key=lambda r: r.revision) for card in self.cards.values()]
        assert {row.digest for row in rows} == {digest}
        return rows[0]


def test_a_village_on_a_generator_pays_by_what_is_wanted_and_could_be_made():
    village = Village(seed=4, loss=0.02, delay=(0.01, 1.5), reorder=True, tick_s=0.5, quiet_s=0.5).grow()
    village.run(60 * 6)
    slot = FIRST + 3
    settled = village.newest(slot)
    assert (settled.rule, settled.buy_u == settled.sell_u) == ("island/1", True)
    # 6000 W of 10,000 W: from there on the price rises; whole Wh are rounded down at each edge
    assert 98 <= settled.island.wanted <= 102
    assert 165 <= settled.island.available <= 168
    assert not settled.island.shed
    assert settled.buy_u <= 50_000
    assert settled.wants["mill"].feeder == "generator"
    assert replay(settled) == ""
    books = entries(settled)
    assert (sum(books.values()), books["grid"]) == (0, 0)
    for card in village.cards.values():
        said = card.summary
        assert (said["rule"], said["settled"]["rule"]) == ("island/1", "island/1")
        assert said["signal_u"] == said["price_u"]  # of two slots ago
        rows = [row for row in card.ledger if row.slot <= slot]
        assert audit(rows, 0, 10**10).problems == []
    record = json.loads(village.cards["oak"].retained[f"grid/node/mill/{KIND}"])
    assert record["feeder"]
    assert set(record["feeder"].values()) == {"generator"}
    assert len(record["wanted_wh"]) == len(record["avail_wh"]) == len(record["import_wh"])
    before = village.cards["oak"].node.slot

    village.base_w = 1750  # 9000 W with the heater: 0.9 of what could be made
    village.run(60 * 4)
    dear = village.newest(before + 1)
    assert 650_000 <= dear.buy_u <= 850_000  # 0.75 of the way to the cap
    assert not dear.island.shed
    before = village.cards["oak"].node.slot
    village.base_w = 2300  # 11,200 W: the heater is shed
    village.run(60 * 4)
    assert village.cards["ash"].relays["heater"] is False
    dearest = village.newest(before + 1)
    assert (dearest.island.shed, dearest.buy_u) == (True, 1_000_000)
    assert "shed" in dearest.flags["ash"]
    assert dearest.wants["ash"].wanted_wh > dearest.uses["ash"][0]
    assert village.cards["elm"].summary["price_u"] == 1_000_000


def test_what_a_slot_was_does_not_change_with_what_the_zone_is_now():
    """The generator's owner comes back tied to a grid: slots of before stay an island's, later ones are none."""
    village = Village(seed=5, tick_s=0.5, quiet_s=0.5).grow()
    village.run(60 * 4)
    slot = FIRST + 2
    before = village.newest(slot)
    assert before.rule == "island/1"
    village.crash("mill")
    mill = village.cards["mill"]
    mill.settings = replace(mill.settings, feeder=Feeder("set", "grid", 10_000))
    village.start("mill")
    village.run(60 * 5)
    assert village.newest(slot).digest == before.digest
    for card in village.cards.values():
        card.node.settlement.dirty.add(slot)
    village.run(30)
    assert village.newest(slot).digest == before.digest
    assert village.newest(FIRST + 7).rule == "mmr/1"
    record = json.loads(village.cards["oak"].retained[f"grid/node/mill/{KIND}"])
    assert next(iter(record["feeder"].values())) == "generator"
    assert list(record["feeder"].values())[-1] == "grid"


def test_a_signal_is_of_the_same_kind_as_the_zone_now():
    """What two slots ago was priced as an island says nothing where a grid is, nor the other way round."""
    k = int(UNIX_S // 900)
    past = settle(k - 2, "z", USES, TARIFF, {"gen": GEN._replace(avail_wh=50), "house": HOUSE})
    assert past is not None
    assert (past.rule, past.buy_u) == ("island/1", 750_000)  # 0.9
    desk = Desk(past=(past,))
    desk.wait(3.0, w=1000)
    assert (desk.summary["signal_u"], desk.summary["price_u"]) == (750_000, 300_000)
    assert desk.summary["rule"] == "mmr/1"
    flex = {"load": [0, 0, 0, 0], "firm_w": 5000, "slack_w": 1000, "kind": "generator", "digest": "x"}
    desk.meet("gen", 1000, 0, flex=flex)
    desk.wait(2.0, w=1000)
    said = desk.summary
    assert (said["rule"], said["signal_u"], said["price_u"], said["live_u"]) == ("island/1", 750_000, 750_000, 0)


@pytest.mark.parametrize(
    ("why", "manual", "drawn_w", "shed"),
    [
        ("plan", None, 1500, True),
        ("frequency", None, None, True),
        ("plan", None, 0, False),  # it would not draw anything
        ("plan", False, 1500, False),  # meanwhile a person wants it off
        ("manual", None, 1500, False),
        ("start", None, 1500, False),  # it waits for its turn
    ],
)
def test_what_counts_as_shed(why, manual, drawn_w, shed):
    desk = Desk(loads=(HEATER,))
    assert not loads.shed(desk.node, desk.now)
    heater = desk.node.switches.switches["heater"]
    heater.on, heater.since_s, heater.manual, heater.drawn_w = False, desk.now, manual, drawn_w
    desk.node.whys["heater"] = why
    assert loads.shed(desk.node, desk.now + 1.0) == shed


def test_a_node_whose_meter_is_silent_does_not_know_what_it_wants():
    desk = Desk(tariff=MINUTE)
    flex = {"load": [0, 0, 0, 0], "firm_w": 5000, "slack_w": 1000, "kind": "generator", "digest": "x"}
    desk.meet("gen", 1000, 0, flex=flex)
    desk.wait(20.0, w=1000)
    known = desk.node.edges.wants.wanted_wms
    assert known > 0
    desk.wait(40.0, w=None)
    later = desk.node.edges.wants.wanted_wms
    assert later - known <= 1000 * 20_000  # held until it was late, not longer
    desk.wait(10.0, w=None)
    assert desk.node.edges.wants.wanted_wms == later
    desk.wait(100.0, w=1000)
    record = json.loads(desk.told[f"grid/node/me/{KIND}"])
    assert ["unseen" in why for why in record["flags"].values()][:2] == [True, False]


@pytest.mark.parametrize("limit_w", [None, 9000])
def test_what_could_be_made_is_sun_battery_and_one_s_own_generator(limit_w):
    reads = {"main": {"w": 500}, "roof": {"w": -700}, "cellar": {"w": 0, "soc_pct": 50.0}, "set": {"w": -100}}
    roles = {"main": "grid", "roof": "pv", "cellar": "battery", "set": "generator"}
    if limit_w is None:
        del reads["set"]
    desk = Desk(
        meters=tuple(MeterSlot(name, roles[name], 1.0) for name in reads),
        battery=Battery("cellar", 3000, 10_000, written=True),
        feeder=None if limit_w is None else Feeder("set", "generator", limit_w),
    )
    desk.now += 1.0
    for name, values in reads.items():
        desk.do(Metered(name, Reading("good", "", values)))
    # 500 W from outside, 700 W of sun, 100 W of the generator; the battery rests and could give its 3000 W
    assert slots._wants(desk.node, desk.now) == ((1200, 3700) if limit_w is None else (1300, 12_700))
