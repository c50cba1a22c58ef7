"""What every node believes of every other, in whole numbers on arrays: line for line what agent/doubt.py says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.doubt import DOUBT, LAGS, NOISE_W, RATE_PM, WHOLE, WINDOW_S
from agent.simulate.data import Flags, Floats, Ints


class Doubts:
    """Rows [i] are those who doubt, columns [j] those who are doubted."""

    def __init__(self, nodes: int, lag_s: int) -> None:
        self._window_s = WINDOW_S + LAGS * lag_s
        self.unseen: Ints = np.zeros((nodes, nodes), dtype=np.int64)
        self._begun_s: Floats = np.full(nodes, -np.inf)
        self._steps: Ints = np.zeros(nodes, dtype=np.int64)
        self._slack_w: Ints = np.zeros(nodes, dtype=np.int64)
        self._sums: Ints = np.zeros((nodes, nodes, 2), dtype=np.int64)  # watts, steps
        self._had: Flags = np.zeros(nodes, dtype=bool)  # a window before
        self._then_w: Ints = np.zeros(nodes, dtype=np.int64)
        self._thens: Ints = np.zeros((nodes, nodes), dtype=np.int64)
        self._there: Flags = np.zeros((nodes, nodes), dtype=bool)

    def step(self, rows: NDArray[np.intp], net: Ints, near: Flags, slack_w: Ints, now: float) -> Ints:
        """`net` and `near` [r, n]: what each supplies, and whether it is heard now. How many W more each believes from now on."""
        anew = now - self._begun_s[rows] > 2 * self._window_s
        self._had[rows[anew]] = False
        self._begin(rows[anew], now)
        self._steps[rows] += 1
        self._slack_w[rows] += slack_w
        self._sums[rows, :, 0] += np.where(near, net, 0)
        self._sums[rows, :, 1] += near
        more_w: Ints = np.zeros(len(rows), dtype=np.int64)
        due = now - self._begun_s[rows] >= self._window_s
        if due.any():
            more_w[due] = self._close(rows[due], net[due], near[due], now)
        return more_w

    def parts(self, rows: NDArray[np.intp], near: Flags) -> Ints | None:
        """With how many millionths each counts [r, n]; None: all with the whole."""
        unseen = self.unseen[rows]
        less = (unseen >= DOUBT) & near
        if not less.any():
            return None
        less &= (2 * less.sum(axis=1) <= near.sum(axis=1))[:, None]
        return np.where(less, WHOLE - unseen, WHOLE)

    def _begin(self, rows: NDArray[np.intp], now: float) -> None:
        self._begun_s[rows], self._steps[rows], self._slack_w[rows], self._sums[rows] = now, 0, 0, 0

    def _close(self, rows: NDArray[np.intp], net: Ints, near: Flags, now: float) -> Ints:
        """The window of these is over."""
        was_w = self._left_w(rows, net, near)
        steps = self._steps[rows]
        there = self._sums[rows, :, 1] == steps[:, None]
        means = self._sums[rows, :, 0] // steps[:, None]
        mean_w = self._slack_w[rows] // steps
        changes = np.where(there & self._there[rows], means - self._thens[rows], 0)
        had = self._had[rows]
        self._learn(rows[had], (mean_w - self._then_w[rows])[had], changes[had])
        self._had[rows], self._then_w[rows], self._thens[rows], self._there[rows] = True, mean_w, means, there
        self._begin(rows, now)
        return self._left_w(rows, net, near) - was_w

    def _learn(self, rows: NDArray[np.intp], slack_w: Ints, changes: Ints) -> None:
        unseen = self.unseen[rows]
        error_w = slack_w + changes.sum(axis=1) - (unseen * changes).sum(axis=1) // WHOLE
        power = NOISE_W**2 + (changes**2).sum(axis=1) + error_w**2
        moved = unseen + error_w[:, None] * changes * (RATE_PM * WHOLE // 1000) // power[:, None]
        self.unseen[rows] = np.clip(moved, 0, WHOLE)

    def _left_w(self, rows: NDArray[np.intp], net: Ints, near: Flags) -> Ints:
        parts = self.parts(rows, near)
        return np.zeros(len(rows), dtype=np.int64) if parts is None else (net * parts // WHOLE - net).sum(axis=1)
