"""What perfect foresight would have left unserved: a linear program over the same realisation at the same resolution (HiGHS)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from agent.simulate.data import ETA, START_SOC, TICK_S, Floats

PIECE = 50  # ticks; in a longer run the energy that one battery gives another late would be had early (5 % too low, 53 nodes)
GROUPS = 4  # batteries of like duration are pooled; more groups would only raise the bound, each doubles the rows of a run


class Unsolved(Exception):
    """The solver gave up; its text is the solver's."""


def bound_wh(need_w: Floats, battery_w: Floats, battery_wh: Floats, tick_s: float = TICK_S) -> float:
    """Least unserved Wh of any control whatever. `need_w` of a tick is wanted - sun - firm; < 0 is what could be charged.

    Ticks of one sign are joined to a run. That loses nothing: what batteries of power P_g can give to needs n_t is a polymatroid
    with rank sum_t min(n_t, P(A)) over sets A of groups, and the Minkowski sum of polymatroids has the sum of their ranks
    (McDiarmid 1975). Pooling batteries and asking for the state of charge at the ends of runs only can but lower the result:
    every trajectory of the simulation is feasible here, so that no case is ever below the bound.
    """
    hours = tick_s / 3600
    groups = _groups(battery_w, battery_wh)
    if not groups:
        return float(np.maximum(need_w, 0).sum()) * hours
    short = need_w > 0
    edges = np.union1d(np.flatnonzero(np.diff(short)) + 1, np.arange(PIECE, len(need_w), PIECE))
    starts = np.concatenate(([0], edges))
    ticks = np.diff(np.concatenate((starts, [len(need_w)])))
    runs, many = len(starts), len(groups)
    lacking = short[starts]
    power = np.array([watts for watts, _ in groups])
    energy = np.array([held for _, held in groups])
    # columns: unserved [runs], then for each group out, in, held [runs]
    out = [runs * (1 + 3 * g) for g in range(many)]
    into, held = [column + runs for column in out], [column + 2 * runs for column in out]
    upper = np.empty(runs * (1 + 3 * many))
    upper[:runs] = np.where(lacking, np.inf, 0.0)
    for g in range(many):
        upper[out[g] : held[g]] = np.tile(ticks * power[g] * hours, 2)
        upper[held[g] : held[g] + runs] = energy[g]
    rows = _Rows()
    balance = _Rows()
    every = np.arange(runs)
    for g in range(many):
        at = balance.add(np.where(every == 0, energy[g] * START_SOC, 0.0))
        balance.put(at, held[g] + every, 1.0)
        balance.put(at[1:], held[g] + every[:-1], -1.0)
        balance.put(at, into[g] + every, -ETA)
        balance.put(at, out[g] + every, 1 / ETA)
    at = rows.add(-_sums(np.abs(need_w), starts, hours) * np.where(lacking, 1, -1))  # -u - given <= -need; charged <= spare
    rows.put(at, every, -1.0)
    for g in range(many):
        rows.put(at, out[g] + every, -1.0)
        rows.put(at, into[g] + every, 1.0)
    lack, spare = every[lacking], every[~lacking]
    for size in range(1, many + 1):
        for inside in combinations(range(many), size):
            together = power[list(inside)].sum()
            beyond = _sums(np.maximum(need_w - together, 0.0), starts, hours)[lacking]
            at = rows.add(-beyond)  # u >= sum (n_t - P(A))+ - what those outside A give
            rows.put(at, lack, -1.0)
            for g in set(range(many)) - set(inside):
                rows.put(at, out[g] + lack, -1.0)
            room = _sums(np.minimum(np.maximum(-need_w, 0.0), together), starts, hours)[~lacking]
            at = rows.add(room)  # into A <= sum min(c_t, P(A)) + what any gives
            for g in range(many):
                rows.put(at, out[g] + spare, -1.0)
            for g in inside:
                rows.put(at, into[g] + spare, 1.0)
    cost = np.zeros(len(upper))
    cost[:runs] = 1.0
    found = linprog(
        cost,
        A_ub=rows.matrix(len(upper)),
        b_ub=rows.right(),
        A_eq=balance.matrix(len(upper)),
        b_eq=balance.right(),
        bounds=np.column_stack((np.zeros(len(upper)), upper)),
        method="highs",
    )
    if found.status != 0:
        raise Unsolved(str(found.message))
    return max(0.0, float(found.fun))


def _groups(battery_w: Floats, battery_wh: Floats) -> list[tuple[float, float]]:
    """(W, Wh) of at most GROUPS pools of batteries of like duration."""
    have = np.flatnonzero((battery_w > 0) & (battery_wh > 0))
    if not len(have):
        return []
    lasts = np.round(battery_wh[have] / battery_w[have], 2)
    kinds = np.unique(lasts)
    marks = kinds if len(kinds) <= GROUPS else np.quantile(kinds, np.linspace(0, 1, GROUPS))
    nearest = np.abs(lasts[:, None] - marks[None]).argmin(axis=1)
    pools = [have[nearest == g] for g in range(len(marks))]
    return [(float(battery_w[pool].sum()), float(battery_wh[pool].sum())) for pool in pools if len(pool)]


def _sums(watts: Floats, starts: NDArray[np.intp], hours: float) -> Floats:
    return np.asarray(np.add.reduceat(watts, starts) * hours, dtype=np.float64)


class _Rows:
    """A sparse matrix and its right side, grown block by block."""

    def __init__(self) -> None:
        self._count = 0
        self._rights: list[Floats] = []
        self._parts: list[tuple[NDArray[np.intp], NDArray[np.intp], float]] = []

    def add(self, right: Floats) -> NDArray[np.intp]:
        """The indices of as many new rows."""
        self._rights.append(right)
        self._count += len(right)
        return np.arange(self._count - len(right), self._count)

    def put(self, rows: NDArray[np.intp], columns: NDArray[np.intp], value: float) -> None:
        self._parts.append((rows, columns, value))

    def right(self) -> Floats:
        return np.concatenate(self._rights)

    def matrix(self, columns: int) -> Any:
        """Compressed by rows, as HiGHS takes it."""
        rows = np.concatenate([part[0] for part in self._parts])
        at = np.concatenate([part[1] for part in self._parts])
        values = np.concatenate([np.full(len(part[0]), part[2]) for part in self._parts])
        return coo_matrix((values, (rows, at)), shape=(self._count, columns)).tocsr()
