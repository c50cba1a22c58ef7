"""What every published summary says is true, whatever fails: power cuts, wrong clocks, rumours of the dead."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from conftest import Survived
from fleet import UNIX_S, Card
from graphs import Pairs, chords, full, line, names, ring
from judged import Judged, built, join

from agent.events import Event, Status

STATE_END = "/state"


# 1. power cuts

POWER = [
    ("line", 10, line(names(10)), 2),
    ("ring", 12, ring(names(12)), 4),
    ("chords", 15, chords(names(15), seed=3, more=8), 5),
    ("large", 30, chords(names(30), seed=5, more=15), 8),
]


def apart(fleet: Judged, count: int) -> list[str]:
    """So many nodes at random, none of them siblings: an edge that both ends forget can be known to nobody."""
    chosen: list[str] = []
    for key in fleet.dice.sample(sorted(fleet.cards), len(fleet.cards)):
        if len(chosen) < count and not any(key in fleet.wires[other] for other in chosen):
            chosen.append(key)
    return chosen


def power_cut(fleet: Judged, victims: list[str], lose: Iterable[str], dark_s: float = 60.0) -> tuple[float, float]:
    """The seconds until all see the victims as stale, and from their return to agreement. `lose`: 'siblings' may be lost."""
    for key in victims:
        fleet.crash(key, power=True)
    rest = fleet.alive()
    parts = fleet.parts(rest)

    def gone() -> bool:
        return all(fleet.cards[key].summary["members"] == part for part in parts for key in part)

    stale_s = fleet.until(gone, within=20.0)
    fleet.run(1.5)
    ratings = {key: card.settings.rated_w for key, card in fleet.cards.items()}
    for part in parts:
        for key in part:
            said = fleet.cards[key].summary
            unknown_w = sum(rated_w for other, rated_w in ratings.items() if other not in part)
            assert (said["net_w"] - said["low_w"], said["high_w"] - said["net_w"]) == (unknown_w, unknown_w)
            assert (said["heard"], said["nodes"], said["partial"]) == (len(part), len(ratings), True)
            assert all(fleet.cards[key].retained[f"grid/availability/{victim}"] == b"stale" for victim in victims)
    fleet.run(fleet.dice.uniform(0.0, dark_s))
    for number, key in enumerate(victims):
        kept = fleet.cards[key].kept
        match number % 3:
            case 1:
                for name in [name for name in kept if name in lose and fleet.dice.random() < 0.6]:
                    del kept[name]
            case 2:
                for name in lose:
                    kept.pop(name, None)
        fleet.start(key)
        fleet.run(fleet.dice.uniform(0.0, 1.0))
    return stale_s, fleet.until(fleet.agreed, within=340.0)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("name", "count", "pairs", "cut"), POWER[:3], ids=[row[0] for row in POWER[:3]])
def test_power_cuts_with_memory_kept_torn_and_lost(name, count, pairs, cut, seed, survived):
    """A joiner that forgot whom it joined is dialled after 300 s: hence the long way to agreement."""
    fleet = built(count, pairs, seed)
    stale_s, agree_s = power_cut(fleet, apart(fleet, cut), ("versions", "siblings", "records", "seeds"))
    assert stale_s <= 16.0
    assert not any(card.node.show.alerts for card in fleet.cards.values())
    survived(Survived(f"pretend: power cuts, {name}, seed {seed}", count, cut, *fleet.settled(), agree_s))


@pytest.mark.parametrize(("name", "count", "pairs", "cut"), POWER[3:], ids=[row[0] for row in POWER[3:]])
def test_power_cuts_among_many(name, count, pairs, cut, survived):
    fleet = built(count, pairs, seed=4, quiet_s=0.25)
    stale_s, agree_s = power_cut(fleet, apart(fleet, cut), ("versions", "records", "seeds"))
    assert stale_s <= 16.0
    assert agree_s < 10.0
    survived(Survived(f"pretend: power cuts, {name}", count, cut, *fleet.settled(), agree_s))


def test_power_cuts_among_a_hundred(survived):
    """Nodes tick each second and show their summary each half: there are as many records, and fewer sums of them."""
    fleet = built(100, chords(names(100), seed=9, more=2), seed=9, quiet_s=0.5, tick_s=1.0)
    stale_s, agree_s = power_cut(fleet, apart(fleet, 12), ("versions", "records", "seeds"), dark_s=1.0)
    assert stale_s <= 17.0
    assert agree_s < 10.0
    survived(Survived("pretend: power cuts, a hundred", 100, 12, *fleet.settled(quiet_s=1.5), agree_s))


# 3. clocks


@dataclass
class Warped(Judged):
    """Wall clocks that are off by a function of the time, and monotonic ones that run at another rate."""

    walls: dict[str, Callable[[float], float]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def unix_s(self, card: Card) -> float:
        # a minute later than others begin: no slot ends meanwhile, which wrong clocks would rightly see at another moment
        return super().unix_s(card) + 60.0 + (self.walls[card.key](self.now) if card.key in self.walls else 0.0)

    def step(self, card: Card, event: Event) -> None:
        if card.key in self.rates:
            card.clock = self.began.setdefault(card.key, card.clock) + self.rates[card.key] * self.now
        super().step(card, event)


WALLS: dict[str, Callable[[float], float]] = {
    "n01": lambda now: 300.0 - UNIX_S,  # 1970: no battery, no time server
    "n03": lambda now: 3600.0,
    "n05": lambda now: -1800.0 if now > 30.0 else 0.0,  # stepped back in the middle
    "n07": lambda now: 0.1 * now,
}


def troubled_minute(fleet: Judged, count: int, pairs: Pairs) -> Judged:
    """A minute of changes, a power cut, a cut and a healing; the same for the same seed.

    The one in the dark keeps its memory: without it an own record of before may have the version of one of now, and then the
    bytes decide, dates among them."""
    fleet.shown = {}
    join(fleet, count, pairs)
    for number in range(30):
        fleet.cards[fleet.dice.choice(names(count))].w = fleet.dice.randint(-5_000, 5_000)
        match number:
            case 5:
                fleet.crash("n01", power=True)
            case 12:
                fleet.start("n01")
            case 14:
                fleet.partition(names(count)[: count // 2], names(count)[count // 2 :])
            case 22:
                fleet.heal()
            case _:
                pass
        fleet.run(2.0)
    return fleet


def course(fleet: Judged) -> list[tuple]:
    """All that was ever shown, by node, each change once; a digest is named by its first appearance."""
    assert fleet.shown is not None
    numbers: dict[str, int] = {}
    shown = sorted(((at, key, said) for key, rows in fleet.shown.items() for at, said in rows), key=lambda row: row[:2])
    rows, before = [], {}
    for _, key, said in shown:
        name = numbers.setdefault(said.digest, len(numbers))
        row = (key, said.net_w, said.low_w, said.high_w, said.price_u, said.sell_u, name, said.members, said.nodes)
        if before.get(key) != row:
            before[key] = row
            rows.append(row)
    return rows


CLOCKS = [(10, ring(names(10)), 1), (10, line(names(10)), 2), (16, chords(names(16), seed=6, more=8), 3)]


@pytest.mark.parametrize(("count", "pairs", "seed"), CLOCKS)
def test_wrong_wall_clocks_change_nothing(count, pairs, seed, survived):
    """Every digest stands for the records of one and the same moment, whatever their dates say."""
    right = troubled_minute(Warped(seed), count, pairs)
    wrong = troubled_minute(Warped(seed, walls=WALLS), count, pairs)
    assert course(wrong) == course(right)
    assert len(course(right)) > 30 * count
    agree_s = wrong.until(wrong.agreed, within=15.0)
    assert wrong.cards["n01"].summary["at"] < "1970-02"
    survived(Survived(f"pretend: wrong wall clocks, {count} nodes, seed {seed}", count, len(WALLS), *wrong.settled(), agree_s))
    ages(wrong)


def test_monotonic_clocks_that_run_a_tenth_fast_and_slow(survived):
    fleet = Warped(seed=1, rates={"n01": 0.1, "n04": -0.1})
    join(fleet, 12, ring(names(12)))
    fleet.run(200.0)
    assert not any("is stale" in line for card in fleet.cards.values() for line in card.log)
    survived(Survived("pretend: monotonic clocks that drift", 12, 2, *fleet.settled()))
    ages(fleet)


def ages(fleet: Judged) -> None:
    """No age is negative, on any node, of any node."""
    for key, card in fleet.cards.items():
        number = fleet.ask(key, Status())
        rows = card.answers[number]["nodes"].values()
        assert all(row["age_s"] >= 0 for row in rows)


# 3. rumours of the dead


def rumour(gap_s: float) -> tuple[Judged, int]:
    """Two parts lost the same node half a minute apart, before it died: how often anybody counts it after both come back."""
    fleet = Judged(seed=1)
    ids = names(5)
    join(fleet, 5, full(ids))
    away, behind, early, late, dead = ids
    fleet.partition([away, behind], [early, late, dead])
    fleet.run(30.0)
    fleet.partition([early], [late, dead])
    fleet.run(30.0)
    fleet.crash(dead, power=True)
    fleet.run(40.0)
    counted = 0
    for there, after_s in ((early, gap_s), (late, 40.0)):  # each brings another old copy
        fleet.cuts -= {frozenset((away, there))}
        fleet._link_up(fleet.cards[away], fleet.cards[there])
        for _ in range(round(after_s / 0.2)):
            fleet.run(0.2)
            counted += sum(dead in fleet.cards[key].summary["members"] for key in fleet.alive())
    return fleet, counted


@pytest.mark.parametrize("gap_s", [0.0, 0.2, 0.6, 2.0, 5.0, 14.0, 16.0])
def test_old_copies_of_a_dead_node_do_not_make_it_count(gap_s, survived):
    fleet, counted = rumour(gap_s)
    assert not counted
    fleet.heal()
    rest = fleet.alive()
    agree_s = fleet.until(lambda: fleet.agreed(*rest), within=15.0)
    survived(Survived(f"pretend: rumours {gap_s:4.1f} s apart", 5, 3, *fleet.settled(), agree_s))
