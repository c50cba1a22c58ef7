"""Slots in a whole node: its own registers, the signal that becomes the price, islands that unite, and lost memories."""

import json

import msgspec
import pytest
from desk import Desk, published
from fleet import TARIFF, UNIX_S, Fleet
from graphs import names, ring

from agent import wire
from agent.accounts import entries
from agent.decode import decode
from agent.events import Heard, Metered, Post, Quiet, Save, Status, Tick
from agent.price import RULES
from agent.settlement import LATE_S
from agent.slots import RECLAIM_S
from drivers.reading import Reading

MINUTE = msgspec.structs.replace(TARIFF, slot_s=60)
FIRST = int(UNIX_S // 60) + 1  # the first whole slot of a minute: it begins 16 s after the start
DAY = FIRST * 60 // 86_400
KIND = wire.energy_kind(DAY)


class Metering(Desk):
    """A node at a desk with slots of a minute; its grid meter has counters, read every second."""

    def __init__(self, **changes) -> None:
        self.import_wh, self.export_wh = 10_000, 500
        super().__init__(tariff=MINUTE, **changes)

    def run(self, seconds: float, w: int, import_wh: int = 0, export_wh: int = 0, good: bool = True) -> list:
        """`import_wh` and `export_wh` are counted in each whole minute."""
        effects = []
        for _ in range(int(seconds)):
            self.now += 1.0
            unix_s = UNIX_S + self.now - 1000.0
            taken, given = ((wh * int(unix_s - UNIX_S + 44)) // 60 for wh in (import_wh, export_wh))
            values = {"w": w, "import_wh": self.import_wh + taken, "export_wh": self.export_wh + given}
            effects += self.do(Metered("main", Reading("good", "", values)))
            effects += self.do(Tick(unix_s, good))
            effects += self.do(Quiet())
        return effects

    @property
    def energy(self) -> dict:
        return json.loads(self.told[f"grid/node/me/{KIND}"])


def told(node: str, import_wh: list, export_wh: list | None = None, version: int = 9, **more) -> bytes:
    """Another node's record: its registers at the edges from FIRST on."""
    keys = {
        "day": DAY,
        "slot_s": 60,
        "edges": FIRST - DAY * 1440,
        "import_wh": import_wh,
        "export_wh": export_wh or [0] * len(import_wh),
        "flags": {},
        "zone": "z",
        "rated_w": 60_000,
    }
    return json.dumps(keys | {"version": version} | more).encode()


def test_its_registers_stand_in_its_record_at_every_edge():
    desk = Metering()
    effects = desk.run(16 + 60 + 60 + 2, 600, import_wh=10)
    record = desk.energy
    assert (record["day"], record["slot_s"], record["edges"]) == (DAY, 60, FIRST - DAY * 1440)
    # the counter stands at 10,010 at the first edge; between two looks at it the edge lies on a line, in whole Wh
    assert record["import_wh"] in ([10_009, 10_019, 10_029], [10_010, 10_020, 10_030])
    assert record["export_wh"] == [500, 500, 500]
    assert (record["flags"], record["zone"], record["rated_w"]) == ({}, "z", 10_000)
    assert [effect.name for effect in effects if isinstance(effect, Save)].count("edges") >= 3
    decode(wire.place(f"grid/node/me/{KIND}"), desk.told[f"grid/node/me/{KIND}"])


def test_without_counters_power_is_added_up_and_the_slots_say_so():
    desk = Desk(tariff=MINUTE)
    desk.wait(16 + 60 + 2, w=-1800)
    record = json.loads(desk.told[f"grid/node/me/{KIND}"])
    assert record["export_wh"][1] - record["export_wh"][0] == 30  # 1800 W for a minute
    assert set(record["flags"].values()) == {"integrated"}


def test_a_clock_that_is_not_good_flags_its_slots_and_drops_none():
    desk = Metering()
    effects = desk.run(16 + 60 + LATE_S + 12, 600, import_wh=10, good=False)
    assert set(desk.energy["flags"].values()) == {"clock"}
    (post,) = [effect for effect in effects if isinstance(effect, Post)]
    (row,) = post.rows
    assert (row.uses, row.flags) == ({"me": (10, 0)}, {"me": "clock"})
    assert post.unix_s == 0.0  # the ledger lets nothing go by such a clock


def test_a_slot_is_settled_and_two_slots_later_it_is_the_price():
    desk = Metering()
    desk.meet("b", 0, 1000)
    desk.run(16 + 60 + 2, 600, import_wh=10)
    desk.hear(f"$grid/in/b/b/{KIND}", told("b", [5, 5], [100, 130]))
    posted = [effect for effect in desk.run(LATE_S + 12, 600, import_wh=10) if isinstance(effect, Post)]
    (row,) = [row for effect in posted for row in effect.rows if row.slot == FIRST]
    assert row.uses == {"me": (10, 0), "b": (0, 30)}
    # S = 30, D = 10: the buyer pays m = 0.19; the sellers get (0.19 * 10 + 0.08 * 20) / 30 = 0.116666
    assert (row.buy_u, row.sell_u) == (190_000, 116_666)
    assert sum(entries(row).values()) == 0
    said = desk.summary
    assert (said["slot"], said["signal_u"]) == (FIRST + 1, None)  # its signal is made of the slot before the first
    assert said["settled"] == {
        "slot": FIRST,
        "revision": 0,
        "digest": row.digest,
        "buy_u": 190_000,
        "sell_u": 116_666,
        "rule": "mmr/1",
        "nodes": 2,
        "missing": 0,
    }
    before = said["digest"]
    desk.run(60 - LATE_S - 12, 600, import_wh=10)
    desk.meet("b", 0, 1000, version=50)
    said = desk.summary
    assert (said["slot"], said["signal_u"], said["price_u"], said["sell_u"]) == (FIRST + 2, 190_000, 190_000, 116_666)
    assert desk.told["grid/price"] == b"0.1900"
    assert desk.told["grid/price/sell"] == b"0.116666"
    assert said["live_u"] == 300_000  # at this moment nobody gives anything
    assert said["digest"] != before


def test_a_late_record_makes_a_revision_and_the_signal_follows():
    desk = Metering()
    desk.meet("b", 0, 1000)
    desk.run(16 + 60 + LATE_S + 12, 600, import_wh=10)
    assert desk.summary["settled"]["missing"] == 1
    desk.run(40, 600, import_wh=10)
    before = desk.summary
    assert (before["slot"], before["signal_u"]) == (FIRST + 2, 300_000)  # it alone: nobody gave
    desk.hear(f"$grid/in/b/b/{KIND}", told("b", [5, 5], [100, 130]))
    posted = [row for effect in desk.run(12, 600, import_wh=10) if isinstance(effect, Post) for row in effect.rows]
    assert [(row.revision, row.booked) for row in posted if row.slot == FIRST] == [(1, FIRST)]
    after = desk.summary
    assert after["signal_u"] == 190_000
    assert after["digest"] != before["digest"]


def test_a_tariff_takes_effect_at_the_slot_that_it_names():
    desk = Metering()
    old = {name: getattr(MINUTE, name) for name in ("import_u", "export_u", "floor_u", "cap_u", "currency", "slot_s", "rule")}
    new = old | {"import_u": 900_000, "rule": "fixed", "from": FIRST + 1, "past": [old | {"from": 0}], "by": "b", "version": 7}
    desk.hear("$grid/in/b/network/tariff", json.dumps(new).encode())
    desk.run(16 + 59, 600)
    assert (desk.summary["live_u"], desk.summary["rule"]) == (300_000, "mmr/1")
    desk.run(2, 600)
    assert (desk.summary["live_u"], desk.summary["rule"]) == (900_000, "fixed/1")
    posted = [row for effect in desk.run(120, 600, import_wh=10) if isinstance(effect, Post) for row in effect.rows]
    assert {row.slot: row.import_u for row in posted} == {FIRST: 300_000, FIRST + 1: 900_000}


def test_a_tariff_heard_late_settles_its_slots_anew():
    """Cut off while the others changed it: what was settled by the old rates becomes a revision by the new ones."""
    desk = Metering()
    desk.run(16 + 60 + LATE_S + 12, 600, import_wh=10)
    old = {name: getattr(MINUTE, name) for name in ("import_u", "export_u", "floor_u", "cap_u", "currency", "slot_s", "rule")}
    new = old | {"import_u": 900_000, "from": FIRST, "past": [old | {"from": 0}], "by": "b", "version": 7}
    desk.hear("$grid/in/b/network/tariff", json.dumps(new).encode())
    posted = [row for effect in desk.run(12, 600, import_wh=10) if isinstance(effect, Post) for row in effect.rows]
    assert [(row.slot, row.revision, row.import_u) for row in posted] == [(FIRST, 1, 900_000)]


def test_a_restart_goes_on_with_registers_and_ledger():
    desk = Metering()
    effects = desk.run(16 + 60 + LATE_S + 12, 600, import_wh=10)
    rows = [row for effect in effects if isinstance(effect, Post) for row in effect.rows]
    again = Metering(kept=desk.kept, past=tuple(rows))
    assert again.node.edges.edges == desk.node.edges.edges
    assert again.summary["settled"]["digest"] == desk.summary["settled"]["digest"]
    damaged = Metering(kept=desk.kept | {"edges": b'{"slot_s": "x"}'})
    assert "edges (" in damaged.alerts["store"]


def test_own_records_of_a_life_forgotten_are_taken_back_and_stood_above():
    desk = Metering()
    desk.run(16 + 60 + 2, 600, import_wh=10)
    forgotten = told("me", [9_000, 9_010], [400, 400], version=5000, edges=FIRST - DAY * 1440 - 5)
    effects = desk.do(Heard(f"$grid/in/b/me/{KIND}", forgotten))
    mine = json.loads(published(effects, f"grid/node/me/{KIND}")[f"grid/node/me/{KIND}"])
    assert mine["version"] > 5000
    assert mine["edges"] == FIRST - DAY * 1440 - 5
    assert mine["import_wh"][:2] == [9_000, 9_010]
    assert mine["import_wh"][6] - mine["import_wh"][5] == 10
    # once in a while: a forger may go on for ever
    forged = told("me", [1, 2], version=6000)
    assert f"grid/node/me/{KIND}" not in {
        topic for topic, payload in published(desk.do(Heard(f"$grid/in/b/me/{KIND}", forged))).items() if payload != forged
    }
    desk.now += RECLAIM_S
    effects = desk.do(Heard(f"$grid/in/b/me/{KIND}", told("me", [1, 2], version=6001)))
    assert json.loads(published(effects)[f"grid/node/me/{KIND}"])["version"] > 6001


def test_status_has_the_tariff():
    desk = Metering()
    assert desk.ask(Status())["tariff"]["slot_s"] == 60


# the pretend network


class Hours(Fleet):
    """Nodes with clocks right to a second, whose meters change; each slot is a minute."""

    def grow(self, count: int, rule: str = "mmr") -> "Hours":
        for number, id_ in enumerate(names(count)):
            card = self.add(id_, w=700 * (number % 5 - 2), tariff=msgspec.structs.replace(MINUTE, rule=rule))
            card.wall = self.dice.uniform(-0.5, 0.5)
        self.run(3.0)
        self.join(ring(names(count)))
        return self

    def digests(self, slot: int) -> set:
        return {head.digest for card in self.cards.values() if (head := card.node.settlement.heads.get(slot)) is not None}

    def settled(self) -> list[int]:
        """Slots settled by all of those that run."""
        heads = [set(card.node.settlement.heads) for card in self.cards.values() if card.node]
        return sorted(set.intersection(*heads))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_slot_has_one_price_everywhere_and_sums_to_zero(rule):
    fleet = Hours(seed=3, loss=0.0, delay=(0.01, 2.0), reorder=True, tick_s=1.0, quiet_s=1.0)
    fleet.grow(5, rule)
    fleet.run(600.0)
    slots = fleet.settled()
    assert len(slots) >= 7
    for slot in slots:
        assert len(fleet.digests(slot)) == 1
        assert {card.node.settlement.heads[slot].rule for card in fleet.cards.values()} == {f"{rule}/1"}
    for card in fleet.cards.values():
        assert {sum(entries(row).values()) for row in card.ledger} == {0}
    signals = {(card.summary["slot"], card.summary["signal_u"]) for card in fleet.cards.values()}
    assert len(signals) == 1
    assert next(iter(signals))[1] is not None


def test_two_islands_settle_apart_and_unite_in_a_correction():
    fleet = Hours(seed=5, tick_s=1.0, quiet_s=1.0).grow(6)
    fleet.run(120.0)
    halves = names(6)[:3], names(6)[3:]
    fleet.partition(*halves)
    fleet.run(240.0)
    apart = [slot for slot in fleet.settled() if len(fleet.digests(slot)) == 2]
    assert len(apart) >= 2
    for slot in apart:  # each half agrees within itself, and says that half is missing
        for half in halves:
            heads = [fleet.cards[key].node.settlement.heads[slot] for key in half]
            assert len({head.digest for head in heads}) == 1
            assert {head.missing for head in heads} == {3}
    fleet.heal()
    fleet.run(60.0)
    for slot in apart:
        assert len(fleet.digests(slot)) == 1
        for card in fleet.cards.values():
            revisions = [row.revision for row in card.ledger if row.slot == slot]
            assert revisions == list(range(len(revisions)))
            assert revisions[-1] >= 1  # the correction is an entry of its own
            assert card.node.settlement.heads[slot].missing == 0
    for card in fleet.cards.values():
        assert {sum(entries(row).values()) for row in card.ledger} == {0}


def test_power_cuts_in_the_middle_of_slots_lose_no_watt_hour():
    """Registers, not deltas: what a node used while it was dark stands between two edges of its counters."""
    fleet = Hours(seed=8, tick_s=1.0, quiet_s=1.0).grow(4)
    fleet.run(150.0)
    fleet.crash("n01", power=True)
    fleet.run(100.0)
    fleet.start("n01")
    fleet.run(240.0)
    for slot in fleet.settled():
        assert len(fleet.digests(slot)) == 1
    record = json.loads(fleet.cards["n00"].retained[f"grid/node/n01/{KIND}"])
    known = [wh for wh in record["import_wh"] if wh is not None]
    assert known == sorted(known)
    assert "partial" in " ".join(record["flags"].values())


OFF = {
    "n01": lambda now: 300.0 - UNIX_S,  # 1970
    "n03": lambda now: 3600.0,
    "n05": lambda now: -1800.0 if now > 200.0 else 0.0,
    "n07": lambda now: 0.05 * now,
}


class Torture(Hours):
    def unix_s(self, card):
        return super().unix_s(card) + (OFF[card.key](self.now) if card.key in OFF else 0.0)


def test_wrong_clocks_spoil_nobody_elses_slots():
    """What they tell is kept and relayed, not dropped; all others have one price for every slot all the time."""
    fleet = Torture(seed=4, tick_s=1.0, quiet_s=1.0).grow(9)
    fleet.run(600.0)
    right = [card for key, card in fleet.cards.items() if key not in OFF]
    heads = [card.node.settlement.heads for card in right]
    slots = sorted(set.intersection(*map(set, heads)))
    assert len(slots) >= 7
    for slot in slots:
        assert len({head[slot].digest for head in heads}) == 1
    signals = {(card.summary["slot"], card.summary["signal_u"], card.summary["settled"]["digest"]) for card in right}
    assert len(signals) == 1
    for key in OFF:
        held = {kind: h.payload for kind, h in fleet.cards[key].node.book.nodes[key].items() if kind in wire.ENERGY}
        assert held
        for card in right:
            assert {kind: card.node.book.get(key, kind).payload for kind in held} == held
    first = fleet.cards["n01"].node.book.get("n01", wire.ENERGY[0]).record
    assert set(first.flags.values()) == {"clock integrated"}  # 1970: day 0
    for card in right:
        assert "n01 by -20779 days" in card.node.show.alerts["clocks"].text
        assert "n03 by +60 min" in card.node.show.alerts["clocks"].text
    assert "this node's clock differs from that of" in fleet.cards["n03"].node.show.alerts["clocks"].text


def test_a_clock_that_says_nothing_readable():
    desk = Desk()
    desk.meet("b", 500, at="yesterday")
    desk.wait(12.0, w=100)
    assert "clocks" not in desk.alerts
    desk.meet("c", 500, version=20, at="2026-11-22T09:34:44Z")
    desk.wait(12.0, w=100)
    assert desk.alerts["clocks"].startswith("clocks differ from ours: c by +60 min; what")
