"""Who knows what and how old: records travel a graph with delay a hop, get lost, and stop at a partition's border."""

from __future__ import annotations

import math
from collections import deque
from random import Random

import numpy as np
from numpy.typing import NDArray

from agent.simulate.data import SLOT_S, SLOTS, TICK_S

DAY_TICKS = SLOTS * SLOT_S // TICK_S
NEAR = 8  # a node joins one of the last eight
EXTRA = 0.5  # edges a node beyond the tree
SPLIT_HOUR = 6  # the daily partition begins here, or earlier if it would pass midnight


def hops(nodes: int, seed: int) -> NDArray[np.int64]:
    """Distances [n, n] in a random connected graph with cycles."""
    random = Random(f"graph {seed} {nodes}")
    near: list[set[int]] = [set() for _ in range(nodes)]
    pairs = [(node, random.randrange(max(0, node - NEAR), node)) for node in range(1, nodes)]
    pairs += [(random.randrange(nodes), random.randrange(nodes)) for _ in range(int(EXTRA * nodes))]
    for one, other in pairs:
        if one != other:
            near[one].add(other)
            near[other].add(one)
    far = np.zeros((nodes, nodes), dtype=np.int64)
    for start in range(nodes):
        seen, waiting = {start: 0}, deque([start])
        while waiting:
            node = waiting.popleft()
            for other in near[node] - seen.keys():
                seen[other] = seen[node] + 1
                waiting.append(other)
        far[start] = [seen[node] for node in range(nodes)]
    return far


class Comms:
    """`step` each tick; then `last[i, j]` is the tick of j's newest record that i has, -1 for none."""

    def __init__(self, nodes: int, seed: int, hop_s: float, loss: float, partition_h: float) -> None:
        """`loss` 0 … 1 of each record on its way to each receiver. The parts of a partition are the even and the odd nodes."""
        # one's own record counts from the next tick like a neighbour's, so that close nodes plan on the same table
        self.lag = np.maximum(np.ceil(hops(nodes, seed) * hop_s / TICK_S), 1).astype(np.int64)
        self.last = np.full((nodes, nodes), -1, dtype=np.int64)
        self.lag_s = int(self.lag.max()) * TICK_S
        self._loss, self._random = loss, np.random.default_rng([seed, 0x6C6F_7373])
        begin_h = min(SPLIT_HOUR, 24 - partition_h)
        self._split = range(round(begin_h * 3600 / TICK_S), math.floor((begin_h + partition_h) * 3600 / TICK_S))
        side = np.arange(nodes) % 2
        self._same = side[:, None] == side[None, :]
        self._own = np.eye(nodes, dtype=bool)

    def split(self, tick: int) -> bool:
        return tick % DAY_TICKS in self._split

    def step(self, tick: int) -> None:
        """What was published up to `tick` arrives."""
        came = tick - self.lag
        if self._loss:
            came = np.where((self._random.random(came.shape) >= self._loss) | self._own, came, -1)
        if self.split(tick):
            came = np.where(self._same, came, -1)
        np.maximum(self.last, came, out=self.last)
