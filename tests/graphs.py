"""Graphs of siblings for the pretend network, and fleets that are joined along them."""

import json
import random
from itertools import pairwise

from fleet import Fleet

Pairs = list[tuple[str, str]]

WATTS = [3_000, -1_575, 740, -4_999, 1, 0, -2_315, 850]


def names(count: int) -> list[str]:
    return [f"n{number:02d}" for number in range(count)]


def line(ids: list[str]) -> Pairs:
    return list(pairwise(ids))


def ring(ids: list[str]) -> Pairs:
    return [*line(ids), *([(ids[-1], ids[0])] if len(ids) > 2 else [])]


def full(ids: list[str]) -> Pairs:
    return [(a, b) for number, a in enumerate(ids) for b in ids[number + 1 :]]


def chords(ids: list[str], seed: int, more: int) -> Pairs:
    """A random tree and some edges more: cycles of all lengths."""
    dice = random.Random(seed)
    tree = [(id_, dice.choice(ids[:number])) for number, id_ in enumerate(ids) if number]
    known = {frozenset(pair) for pair in tree}
    rest = [pair for pair in full(ids) if frozenset(pair) not in known]
    return tree + dice.sample(rest, min(more, len(rest)))


def built(count: int, pairs: Pairs, seed: int = 1, **how) -> Fleet:
    """A fleet that is joined and agrees."""
    fleet = Fleet(seed, **how)
    for number, id_ in enumerate(names(count)):
        fleet.add(id_, w=WATTS[number % len(WATTS)] + number)
    fleet.run(2.0)
    fleet.join(pairs)
    fleet.until(fleet.agreed, within=60.0)
    return fleet


def exact(fleet: Fleet, *keys: str) -> int:
    """The sum of what the meters last said, in the node's sign; asserts that each of these shows it."""
    cards = [fleet.cards[key] for key in keys] if keys else [card for card in fleet.cards.values() if card.node]
    net_w = -sum(card.w for card in cards if card.w is not None)
    assert {card.summary["net_w"] for card in cards} == {net_w}
    assert {json.loads(card.retained["grid/net"]) for card in cards} == {net_w}
    assert len({(card.summary["price_u"], card.summary["sell_u"]) for card in cards}) == 1
    return net_w
