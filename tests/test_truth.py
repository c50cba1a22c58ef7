"""What every published summary says is true, whatever fails: power cuts, wrong clocks, rumours of the dead; on the pretend network."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import pytest
from conftest import Survived
from fleet import UNIX_S, Card, Fleet
from graphs import Pairs, chords, line, names, ring

from agent.events import Event, Metered
from agent.wire import NETWORK, NODE, node_topic
from drivers.reading import Reading

STATE_END = "/state"


class Said(msgspec.Struct):
    """Of a state record what the judge compares."""

    net_w: int | None
    quality: str


class Shown(msgspec.Struct):
    """Of a summary what the judge compares."""

    net_w: int
    low_w: int
    high_w: int
    price_u: int
    sell_u: int
    digest: str
    members: list[str]
    oldest_s: float
    nodes: int
    heard: int
    partial: bool


@dataclass
class Judged(Fleet):
    """A fleet in which every word is checked: a state that its owner never said, or a net that is not the sum, is wrong.

    The judge reads what a local reader of that node's broker can read: the summary, and the records that lie there by then.
    That equal digests have equal nets and prices is asserted by the fleet itself.
    """

    wrong: list[str] = field(default_factory=list)
    said: dict[bytes, Said] = field(default_factory=dict)  # every state that its owner really published
    last: dict[str, bytes] = field(default_factory=dict)  # by card, the newest of them
    lately: dict[str, list[int]] = field(default_factory=dict)  # by card, the net of its newest three
    shown: dict[str, list[tuple[float, Shown]]] | None = None  # by card, every summary, where a test wants them
    summaries: int = 0
    connects: Counter[str] = field(default_factory=Counter)

    def _publish(self, card: Card, topic: str, payload: bytes) -> None:
        super()._publish(card, topic, payload)
        if not card.broker:
            return
        if topic.startswith(NODE) and topic.endswith(STATE_END) and payload:
            self._state(card, topic[len(NODE) : -len(STATE_END)], payload)
        elif topic == "grid/summary":
            self._summary(card, msgspec.json.decode(payload, type=Shown))

    def _state(self, card: Card, owner: str, payload: bytes) -> None:
        if owner == card.settings.id and payload != self.last.get(card.key):
            said = self.said[payload] = msgspec.json.decode(payload, type=Said)
            self.last[card.key] = payload
            self.lately[card.key] = [*self.lately.get(card.key, [])[-2:], said.net_w or 0]
        elif payload not in self.said:
            self.wrong.append(f"{self.now:.2f} {card.key} gives on what {owner} never said: {payload!r}")

    def _summary(self, card: Card, shown: Shown) -> None:
        self.summaries += 1
        if self.shown is not None:
            self.shown.setdefault(card.key, []).append((self.now, shown))
        rest, mine = 0, card.settings.id
        for member in shown.members:
            said = self.said.get(card.retained.get(f"{NODE}{member}/state", b""))
            if member != mine:
                rest += (said.net_w or 0) if said is not None else 10**15
        # a summary told again to a returned broker may be one own record behind
        allowed = [rest + net_w for net_w in self.lately[card.key]] if mine in shown.members else [rest]
        if shown.net_w not in allowed:
            self.wrong.append(f"{self.now:.2f} {card.key} shows {shown.net_w} W, its records say one of {allowed}")
        if not shown.low_w <= shown.net_w <= shown.high_w or shown.partial != (shown.heard < shown.nodes) or shown.oldest_s < 0:
            self.wrong.append(f"{self.now:.2f} {card.key} shows impossible bounds, coverage or age: {shown}")

    def step(self, card: Card, event: Event) -> None:
        if type(event).__name__ == "Connected":
            self.connects[card.key] += 1
        super().step(card, event)

    def alive(self) -> list[str]:
        return [key for key, card in self.cards.items() if card.node is not None]

    def parts(self, keys: Iterable[str]) -> list[list[str]]:
        """Of these the groups that still hear each other."""
        left, parts = set(keys), []
        while left:
            part: set[str] = set()
            todo = [min(left)]
            while todo:
                key = todo.pop()
                if key not in part:
                    part.add(key)
                    todo += [k for k in self.wires[key] if k in left and frozenset((key, k)) not in self.cuts]
            left -= part
            parts.append(sorted(part))
        return parts

    def settled(self, *keys: str) -> tuple[int, int]:
        """After quiet: updates lost, and nets that were wrong at any time or are not what the meters say now."""
        self.run(1.1)  # one more reading of each meter
        self.run(6.0)
        self.drain(3.0)
        lost, wrong = 0, list(self.wrong)
        for part in self.parts(keys or self.alive()):
            net_w = -sum(self.cards[key].w or 0 for key in part)
            for here in part:
                card = self.cards[here]
                wrong += [f"{here} ends with {card.summary['net_w']} W, not {net_w}"] * (card.summary["net_w"] != net_w)
                for there in part:
                    held = card.retained.get(node_topic(self.cards[there].settings.id, "state"))
                    lost += held != self.last[there]
                lost += len(unlike(card))
        assert not wrong, wrong[:5]
        return lost, len(wrong)


def unlike(card: Card) -> list[str]:
    """Canonical topics of this card's broker that do not hold, byte for byte, what its node holds."""
    held = {record.place.topic: record.payload for record in card.node.book.all()}
    there = {topic: payload for topic, payload in card.retained.items() if topic.startswith((NODE, NETWORK))}
    return sorted(topic for topic in held.keys() | there.keys() if held.get(topic) != there.get(topic))


def built(count: int, pairs: Pairs, seed: int = 1, within: float = 60.0, **how) -> Judged:
    """A fleet that is joined and agrees: every node another load and another rating."""
    fleet = Judged(seed, **how)
    for number, id_ in enumerate(names(count)):
        fleet.add(id_, w=fleet.dice.randint(-5_000, 5_000), rated_w=6_000 + 100 * number)
    fleet.run(2.0)
    fleet.join(pairs)
    fleet.until(fleet.agreed, within)
    return fleet


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


def power_cut(fleet: Judged, victims: list[str], lose: Iterable[str]) -> tuple[float, float]:
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
    fleet.run(fleet.dice.uniform(1.0, 60.0))
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
    """Summaries are shown every half second here: there are as many records, and fewer sums of them."""
    fleet = built(100, chords(names(100), seed=9, more=10), seed=9, quiet_s=0.5)
    stale_s, agree_s = power_cut(fleet, apart(fleet, 12), ("versions", "records", "seeds"))
    assert stale_s <= 16.5
    assert agree_s < 10.0
    survived(Survived("pretend: power cuts, a hundred", 100, 12, *fleet.settled(), agree_s))
