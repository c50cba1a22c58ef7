"""The guards and the plan of every node at once, in whole numbers on arrays: line for line what agent/guards.py says of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.dispatch import CLASSES, Mode, Settings, turn
from agent.doubt import WHOLE
from agent.guards import AGREE_HZ, BACK_S, CLOSURE_PM, CLOSURE_S, SLACK_S, WARM_S
from agent.simulate.data import TICK_S, Flags, Floats, Ints
from agent.simulate.doubts import Doubts

LEAST_RING = 256  # ticks


@dataclass(slots=True)
class Lines:
    """What the guards let these nodes apply; `battery_w` is 0 where there is none."""

    planned: Flags  # [r]; False: agent/local.py alone
    open: Flags  # [r, 4]
    hold: Flags  # [r, 4]
    battery_w: Ints  # [r]


class Records:
    """What was published of late, by tick, and of what is older the sums that a silent node is counted with.

    Node 0 has the firm supply and the slack meter; only the nodes `at` have batteries.
    """

    def __init__(self, nodes: int, at: NDArray[np.intp], ring: int) -> None:
        self.ring = max(LEAST_RING, ring)
        self.at = at
        self.load: Ints = np.zeros((self.ring, nodes, CLASSES), dtype=np.int64)
        self.sun: Ints = np.zeros((self.ring, nodes), dtype=np.int64)
        self.net: Ints = np.zeros((self.ring, nodes), dtype=np.int64)  # without the slack unit
        self.store: Ints = np.zeros((self.ring, len(at), 5), dtype=np.int64)  # dis, chg, ttg, soc, cap
        self.firm: Ints = np.zeros((self.ring, 2), dtype=np.int64)  # firm, slack
        self.old: Ints = np.zeros((nodes, nodes, 2), dtype=np.int64)  # load, sun as i heard j last

    def leave(self, last: Ints, tick: int) -> None:
        """The place of `tick` is about to be written: who has nothing newer of somebody keeps the sums."""
        for node, other in np.argwhere(last == tick - self.ring) if tick >= self.ring else ():
            at = tick % self.ring
            self.old[node, other] = self.load[at, other].sum(), self.sun[at, other]


class Plans:
    """All nodes' guards and plans; those of `rows` are stepped together. Needs stale_s >= SLACK_S, configurations alike."""

    def __init__(self, ids: tuple[str, ...], records: Records, mode: Mode, settings: Settings, nominal_hz: float) -> None:
        nodes = len(ids)
        self._ids, self._mode, self._settings, self._nominal_hz = ids, mode, settings, nominal_hz
        self._records = records
        self.warm: Flags = np.zeros(nodes, dtype=bool)
        self.lost_s: Floats = np.full(nodes, -np.inf)
        self.closure_w: Floats = np.zeros(nodes)
        self.closed_s: Floats = np.full(nodes, np.nan)
        self.known: Flags = np.zeros((nodes, nodes), dtype=bool)  # to the closure
        self.doubts = Doubts(nodes, settings.lag_s)
        self._by_id = np.array(sorted(range(len(records.at)), key=lambda k: ids[int(records.at[k])]), dtype=np.intp)
        self._battery = {int(node): k for k, node in enumerate(records.at[self._by_id])}
        self._day, self._place = -1, np.zeros(nodes, dtype=np.intp)

    def step(self, rows: NDArray[np.intp], last: Ints, tick: int, day: int, hz: float) -> Lines:
        """What the nodes `rows` apply, who have the records `last` [n, n] (ticks, -1 for none) and all see `hz`."""
        records, settings, now = self._records, self._settings, float(tick * TICK_S)
        have = last[rows]
        known = have >= 0
        age_s = (tick - have) * TICK_S
        reach_s = settings.stale_s + settings.lag_s
        near = known & (age_s <= reach_s)
        at = have % records.ring
        column = np.arange(have.shape[1])[None, :]
        gone = known & (tick - have >= records.ring)
        cell = at * have.shape[1] + column
        load: Ints = records.load.reshape(-1, CLASSES).take(cell, axis=0)
        sun: Ints = records.sun.ravel().take(cell)
        net: Ints = records.net.ravel().take(cell)
        silent_w: Ints = np.zeros(len(rows), dtype=np.int64)
        whole = bool(near.all())
        if not whole:
            load[~near], sun[~known | gone], net[~near] = 0, 0, 0
        firm_w, slack_w = records.firm[at[:, 0], 0], records.firm[at[:, 0], 1]
        heard = known[:, 0] & (age_s[:, 0] <= SLACK_S + settings.lag_s) & known[np.arange(len(rows)), rows]
        more_w = self.doubts.step(rows[heard], net[heard], near[heard], slack_w[heard], now)
        self._give(rows[heard], more_w)
        parts = self.doubts.parts(rows, near)
        if parts is not None:
            load, sun, net = load * parts[:, :, None] // WHOLE, sun * parts // WHOLE, net * parts // WHOLE
        each_w: Ints = net  # what each supplies
        far = known & ~near
        if not whole and far.any():
            sun[gone] = records.old[rows][gone][:, 1]
            loads: Ints = np.where(far & ~gone, records.load[at, column].sum(axis=2), 0)
            loads[gone] = records.old[rows][gone][:, 0]
            silent_w = loads.sum(axis=1)
            each_w = net + np.where(far, sun, 0) - loads
        wanted: Ints = np.einsum("ijk->ik", load)
        planned = self._guard(rows, heard, near, now)
        self._learn(rows, planned[:, None] & known & ~self.known[rows], each_w)
        closure = self._close(rows, planned, each_w.sum(axis=1) + slack_w, np.maximum(wanted.sum(axis=1) + silent_w, firm_w), now)
        lines = self._plan(rows, planned, near, at, age_s, load, wanted, silent_w, sun.sum(axis=1), firm_w, closure, day)
        self._warmth(rows, planned, firm_w, slack_w, hz)
        lines.open[~self.warm[rows]] = False
        return lines

    def _guard(self, rows: NDArray[np.intp], heard: Flags, near: Flags, now: float) -> Flags:
        lost = rows[~heard]
        self.lost_s[lost], self.closure_w[lost], self.closed_s[lost], self.known[lost] = now, 0.0, np.nan, False
        self.warm[rows] |= heard & near.all(axis=1)
        return np.asarray(heard & (self.warm[rows] | (now >= WARM_S)) & (now - self.lost_s[rows] >= BACK_S))

    def _learn(self, rows: NDArray[np.intp], new: Flags, each_w: Ints) -> None:
        if new.any():
            self.known[rows] |= new
            self._give(rows, np.where(new, each_w, 0).sum(axis=1))

    def _give(self, rows: NDArray[np.intp], new_w: Ints) -> None:
        was_w = self.closure_w[rows]
        less_w = np.where(was_w > 0, np.maximum(0.0, was_w + new_w), np.minimum(0.0, was_w + new_w))
        self.closure_w[rows] = np.where(was_w * new_w < 0, less_w, was_w)

    def _close(self, rows: NDArray[np.intp], planned: Flags, seen_w: Ints, known_w: Ints, now: float) -> Ints:
        most = known_w * CLOSURE_PM // 1000
        since = now - self.closed_s[rows]
        part = np.where(planned & ~np.isnan(since), np.minimum(1.0, since / CLOSURE_S), 0.0)
        self.closure_w[rows] += (np.clip(seen_w, -most, most) - self.closure_w[rows]) * part
        self.closed_s[rows[planned]] = now
        return np.rint(self.closure_w[rows]).astype(np.int64)

    def _warmth(self, rows: NDArray[np.intp], planned: Flags, firm_w: Ints, slack_w: Ints, hz: float) -> None:
        if self._mode == "island":
            self.warm[rows[planned]] |= hz < self._nominal_hz - AGREE_HZ
        else:
            self.warm[rows] |= planned & (firm_w > 0) & (firm_w <= slack_w)

    def _plan(
        self, rows: NDArray[np.intp], planned: Flags, near: Flags, at: Ints, age_s: Ints, load: Ints, wanted: Ints,
        silent_w: Ints, sun_w: Ints, firm_w: Ints, closure: Ints, day: int,
    ) -> Lines:  # fmt: skip
        records, settings = self._records, self._settings
        offers = records.at[self._by_id]
        near_stores = near[:, offers]
        stores: Ints = records.store[at[:, offers], self._by_id[None, :]]
        stores[~near_stores] = 0
        if self._mode == "tied":
            mean_s = np.where(near, age_s, 0).sum(axis=1) // np.maximum(near.sum(axis=1), 1)
            more_pm = np.minimum(settings.headroom_most_pm, np.maximum(0, mean_s - settings.free_s) * settings.headroom_pm_s)
            firm_w = firm_w - firm_w * more_pm // 1000
        free_w = sun_w + np.maximum(0, -closure)
        demand_w = silent_w + np.maximum(0, closure) + wanted.sum(axis=1)
        supply_w = free_w + firm_w + stores[:, :, 0].sum(axis=1)
        cut = _cut(wanted, demand_w - supply_w)
        kept = _cut(wanted, demand_w + demand_w * settings.margin_pm // 1000 - supply_w)
        lines = Lines(planned, np.zeros((len(rows), CLASSES), bool), np.zeros((len(rows), CLASSES), bool), np.zeros_like(firm_w))
        short = np.flatnonzero(planned & kept.any(axis=1))
        if len(short):
            self._turns(day)
            place = self._place
            before = place[None, :] < place[rows[short]][:, None]
            own = load[short, rows[short]]
            middle = 2 * np.einsum("ij,ijk->ik", before, load[short]) + own
            lines.open[short] = (own > 0) & (middle < 2 * cut[short])
            lines.hold[short] = (own > 0) & (middle < 2 * kept[short])
        served_w = demand_w - cut.sum(axis=1)
        need_w = served_w - free_w - firm_w
        if self._mode == "island":
            most_w = stores[:, :, 0].sum(axis=1)
            whole_w = firm_w * (settings.bias_pm - 1000) // 1000
            bias_w = np.minimum(whole_w, np.maximum(most_w * settings.bias_dis_pm // 1000, 2 * whole_w - most_w))
            called_w = np.maximum(np.minimum(need_w, most_w), stores[:, :, 0].max(axis=1, initial=1))
            need_w -= bias_w * called_w // np.maximum(1, most_w)
        having = np.array([k for k, node in enumerate(rows) if planned[k] and int(node) in self._battery], dtype=np.intp)
        if len(having):
            own_at = np.array([self._battery[int(rows[k])] for k in having], dtype=np.intp)
            lines.battery_w[having] = self._battery_w(need_w[having], (free_w - served_w)[having], stores[having], own_at)
        return lines

    def _battery_w(self, need_w: Ints, left_w: Ints, stores: Ints, own: NDArray[np.intp]) -> Ints:
        band_s, key = self._settings.band_s, stores[:, :, 2]
        out = np.zeros_like(need_w)
        give, take = np.flatnonzero(need_w > 0), np.flatnonzero(need_w < 0)
        if len(give):
            out[give] = fill(need_w[give], stores[give, :, 0], key[give], band_s, own[give])[0]
        if len(take):
            low = stores[take, :, 3] * 1000 < self._settings.target_pm * stores[take, :, 4]
            room = stores[take, :, 1]
            first, all_w = fill(-need_w[take], np.where(low, room, 0), -key[take], band_s, own[take])
            rest = np.minimum(-need_w[take], left_w[take]) - all_w
            out[take] = -first - fill(rest, np.where(low, 0, room), -key[take], band_s, own[take])[0]
        return out

    def _turns(self, day: int) -> None:
        if day != self._day:
            order = sorted(range(len(self._ids)), key=lambda node: turn(self._ids[node], day))
            self._day, self._place[order] = day, np.arange(len(order))


def fill(need_w: Ints, cap_w: Ints, key_s: Ints, band_s: int, own: NDArray[np.intp]) -> tuple[Ints, Ints]:
    """agent.dispatch.fill for many tables [r, m] at once: (the watts of the column `own` of each, the watts of all together)."""
    row = np.arange(len(need_w))
    whole: Ints = cap_w.sum(axis=1)
    given = np.clip(need_w, 0, whole)
    if cap_w.shape[1] == 1:
        return given, given
    if ((need_w >= whole) | (need_w <= 0)).all():
        return np.where(need_w >= whole, cap_w[row, own], 0), given
    low: Ints = key_s.min(axis=1) - band_s
    high: Ints = key_s.max(axis=1)
    for _ in range(int((high - low).max()).bit_length()):
        middle = np.where(high - low > 1, (low + high) // 2, low)
        more = _above(cap_w, key_s, middle, band_s).sum(axis=1) > need_w
        moving = high - low > 1
        low = np.where(moving & more, middle, low)
        high = np.where(moving & ~more, middle, high)
    sure = _above(cap_w, key_s, high, band_s)
    could: Ints = _above(cap_w, key_s, low, band_s) - sure
    rest: Ints = need_w - sure.sum(axis=1)
    before = np.cumsum(could, axis=1)[row, own] - could[row, own]
    soft = sure[row, own] + np.clip(rest - before, 0, could[row, own])
    found = np.where(need_w >= whole, cap_w[row, own], np.where(need_w <= 0, 0, soft))
    return found, given


def _above(cap_w: Ints, key_s: Ints, level_s: Ints, band_s: int) -> Ints:
    return np.asarray(cap_w * np.minimum(band_s, np.maximum(0, key_s - level_s[:, None])) // band_s)


def _cut(wanted: Ints, short_w: Ints) -> Ints:
    cut = np.zeros_like(wanted)
    for each in reversed(range(CLASSES)):
        cut[:, each] = np.minimum(wanted[:, each], np.maximum(0, short_w))
        short_w = short_w - cut[:, each]
    return cut
