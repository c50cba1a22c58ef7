"""Registers that an earlier life told of, taken back: merged with our own so that nothing falls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Pair = tuple[int, int]


class Retold(NamedTuple):
    """Two registers (Wh) at the edges, by how much the present ones are to be lifted, which edges were taken back, and the slots
    whose energy is open because the lift grew in them."""

    edges: dict[int, Pair]
    lift: Pair
    taken: set[int]
    open: set[int]


def merge(own: Mapping[int, Pair], told: Mapping[int, Pair], present: Pair) -> Retold:
    """`own` and `told` by edge, `present` the registers now. Our own stay, lifted where they would fall below what was told."""
    lift, high = (0, 0), (0, 0)
    found = Retold({}, lift, set(), set())
    for edge in sorted(own.keys() | told.keys()):
        mine = own.get(edge)
        if mine is not None:
            lift = _lift(mine, lift, high, edge - 1, found.open)
            found.edges[edge] = high = mine[0] + lift[0], mine[1] + lift[1]
        elif all(now >= before for now, before in zip(told[edge], high, strict=True)):
            found.edges[edge] = high = told[edge]
            found.taken.add(edge)
    return found._replace(lift=_lift(present, lift, high, max(found.edges, default=0), found.open))


def _lift(mine: Pair, lift: Pair, high: Pair, slot: int, is_open: set[int]) -> Pair:
    """The lift that keeps `mine` from falling below `high`; a larger one than before leaves this slot's energy open."""
    new = max(lift[0], high[0] - mine[0]), max(lift[1], high[1] - mine[1])
    if new != lift:
        is_open.add(slot)
    return new
