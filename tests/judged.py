"""A pretend network in which every word that is published is judged; networks of such nodes, joined and agreed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from fleet import Card, Fleet
from graphs import Pairs, names

from agent.wire import NETWORK, NODE, node_topic

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
    shown: dict[str, list[tuple[float, Shown]]] | None = None  # by card, every summary, where a test wants them
    summaries: int = 0

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
            self.said[payload] = msgspec.json.decode(payload, type=Said)
            self.last[card.key] = payload
        elif payload not in self.said:
            self.wrong.append(f"{self.now:.2f} {card.key} gives on what {owner} never said: {payload!r}")

    def lies(self, card: Card, topic: str) -> bytes:
        """What a reader of this card's broker finds there."""
        return card.retained.get(topic, b"")

    def _summary(self, card: Card, shown: Shown) -> None:
        self.summaries += 1
        if self.shown is not None:
            self.shown.setdefault(card.key, []).append((self.now, shown))
        told = [self.said.get(self.lies(card, f"{NODE}{member}/state")) for member in shown.members]
        net_w = sum(said.net_w or 0 for said in told if said is not None)
        if shown.net_w != net_w or None in told:
            self.wrong.append(f"{self.now:.2f} {card.key} shows {shown.net_w} W, its records say {net_w}: {told}")
        if not shown.low_w <= shown.net_w <= shown.high_w or shown.partial != (shown.heard < shown.nodes) or shown.oldest_s < 0:
            self.wrong.append(f"{self.now:.2f} {card.key} shows impossible bounds, coverage or age: {shown}")

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

    def settled(self, *keys: str, quiet_s: float = 7.0) -> tuple[int, int]:
        """After quiet: updates lost, and nets that were wrong at any time or are not what the meters say now."""
        self.run(quiet_s)  # at least one more reading of each meter
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


def built(count: int, pairs: Pairs, seed: int = 1, **how) -> Judged:
    fleet = Judged(seed, **how)
    join(fleet, count, pairs)
    return fleet


def join(fleet: Judged, count: int, pairs: Pairs) -> None:
    """Let so many nodes be joined and agree: every one has another load and another rating."""
    for number, id_ in enumerate(names(count)):
        fleet.add(id_, w=fleet.dice.randint(-5_000, 5_000), rated_w=6_000 + 100 * number)
    fleet.run(2.0)
    fleet.join(pairs)
    fleet.until(fleet.agreed, within=60.0)
