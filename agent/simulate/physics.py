"""The plant: what blocks, batteries, sun and firm supply do in two seconds under what has been decided, and the frequency.

Modelled: every 2 s the quasi-static balance. The grid-forming unit goes from 50.0 Hz to 49.8 Hz at its limit, inverters help by
droop below 49.8 Hz (5 %: full power over 2.5 Hz), batteries take surplus up to 50.2 Hz, above that the sun is curtailed. Where
droop alone would end below 49.0 Hz, the two seconds are integrated by the swing equation at 20 ms with the inverters' and the
relays' delay: the groups of agent/local.py shed from 49.0 to 48.0 Hz, and the plant trips below 47.0 Hz. Not modelled: voltage,
losses, reactive power, phases, and the time constant of the grid-forming unit's governor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.dispatch import CLASSES, Mode
from agent.local import Frequency, shed_below_mhz
from agent.simulate.data import ETA, SLOT_S, SLOTS, START_SOC, TICK_S, Floats, Ints, Scene

HOURS = TICK_S / 3600
NOMINAL_HZ, FULL_HZ, OVER_HZ, TOP_HZ, TRIP_HZ = 50.0, 49.8, 50.2, 51.5, 47.0
RULE = Frequency()
GROUPS = RULE.steps
SHED_HZ, SHED_LAST_HZ = (NOMINAL_HZ - mhz / 1000 for mhz in (RULE.shed_from_mhz, RULE.shed_to_mhz))
DROOP_PER_HZ = 1 / (0.05 * NOMINAL_HZ)  # of the rated power
THRESHOLDS = SHED_HZ - (SHED_HZ - SHED_LAST_HZ) * np.arange(GROUPS) / (GROUPS - 1)
INERTIA_S = 3.0  # H, on the rated power of firm supply and batteries
SWING_S, INVERTER_S, RELAY_S = 0.02, 0.1, 0.3  # step; time constant of droop; from a frequency to an open relay (poll 0.2 s)
DARK_TICKS = 450  # 15 min from a blackout to the next try
BREAKER_S, BREAKER_REST, OUT_TICKS = 12.0, 0.05, 150  # tied: overload x seconds to the trip, cooling a second, 5 min to reclosing
BREAKER_FREE = 0.13  # of the limit: what a breaker carries for an hour and more, IEC 60898-1 (1.13 times its rating)


@dataclass(slots=True)
class Totals:
    """What a case cost. Energy in Wh."""

    unserved_wh: float = 0.0  # wanted and not given, and what was drawn beyond the import limit
    critical_wh: float = 0.0  # of it class 0
    over_wh: float = 0.0  # of it drawn beyond the import limit
    curtailed_wh: float = 0.0
    blackouts: int = 0
    switches: int = 0
    lost_node_min: float = 0.0  # minutes with class 0 or 1 open, summed over the nodes
    low_hz_min: float = 0.0  # minutes below 49.0 Hz, blackouts not counted
    min_hz: float = NOMINAL_HZ


@dataclass(slots=True)
class Flow:
    """Watts of one tick: served + curtailed + exported == sun + battery + firm + over."""

    served: float = 0.0
    sun: float = 0.0
    battery: float = 0.0  # + discharging
    firm: float = 0.0
    over: float = 0.0  # drawn beyond the import limit
    curtailed: float = 0.0
    exported: float = 0.0
    hz: float = NOMINAL_HZ


class Plant:
    """One neighbourhood under one control: `setpoint_w` and the blocks are written by the control, the rest by `step`."""

    def __init__(self, scene: Scene, mode: Mode, droop: bool) -> None:
        """`droop`: whether inverters and relays heed the frequency at all."""
        nodes = len(scene.ids)
        self.mode, self.droop = mode, droop
        self.at = np.flatnonzero(scene.battery_w > 0)  # the nodes with a battery
        self.power_w, self.energy_wh = scene.battery_w[self.at], scene.battery_wh[self.at]
        self.held_wh = self.energy_wh * START_SOC
        self.setpoint_w: Floats = np.zeros(len(self.at))  # + discharging
        self.battery_w: Floats = np.zeros(len(self.at))  # what they did in the last tick
        self.droop_w: Floats = np.zeros(len(self.at))  # of it by droop
        self.on = np.ones((nodes, CLASSES), dtype=bool)
        self.since = np.full((nodes, CLASSES), -(10**6))  # the tick of a block's last switching
        self.open_w: Ints = np.zeros((nodes, CLASSES), dtype=np.int64)  # what an open block drew when it was opened
        self.net_w: Floats = np.zeros(nodes)
        self.any_open = False
        self.hz, self.dark = NOMINAL_HZ, 0
        self.totals, self.flow = Totals(), Flow()
        self._heat_s = 0.0
        self.by_hz = np.zeros((nodes, CLASSES), dtype=bool)  # opened by the frequency, or not tried again after a blackout
        self._ids, self._day = scene.ids, -1
        self._group = np.zeros((nodes, CLASSES), dtype=np.int64)
        self._rated_w = float(scene.firm_w.max()) + float(self.power_w.sum())

    def open(self, blocks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], load: Ints, tick: int, by_hz: bool = True) -> None:
        """Open these blocks [n, 4], by frequency or by plan; those that are open already stay as they are."""
        blocks = blocks & self.on
        many = int(blocks.sum())
        if many:
            self.open_w[blocks] = load[blocks]
            self.since[blocks] = tick
            self.on[blocks] = False
            self.by_hz[blocks] = by_hz
            self.any_open = True
            self.totals.switches += many

    def close(self, blocks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], tick: int) -> None:
        blocks = blocks & ~self.on
        many = int(blocks.sum())
        if many:
            self.since[blocks] = tick
            self.on[blocks] = True
            self.by_hz[blocks] = False
            self.any_open = not self.on.all()
            self.totals.switches += many

    def can_give(self) -> Floats:
        return np.asarray(np.minimum(self.power_w, self.held_wh * ETA / HOURS))

    def can_take(self) -> Floats:
        return np.asarray(np.minimum(self.power_w, np.maximum(self.energy_wh - self.held_wh, 0.0) / ETA / HOURS))

    def step(self, load: Ints, sun: Ints, firm_w: float, tick: int) -> Flow:
        """Two seconds. `load` [n, 4] is what is wanted, `firm_w` what the generator can give or the feeder may import."""
        if self.dark:
            return self._darkness(load, sun, firm_w, tick)
        give, take = self.can_give(), self.can_take()
        u = np.clip(self.setpoint_w, -take, give)
        asked = u
        made = float(sun.sum())
        served = float(load.sum() if not self.any_open else load[self.on].sum())
        x = served - made - float(u.sum())  # for the firm supply to cover
        flow = Flow(sun=made, hz=NOMINAL_HZ)
        if self.mode == "tied":
            flow.firm, flow.over, flow.exported = min(max(x, 0.0), firm_w), max(0.0, x - firm_w), max(0.0, -x)
            if self._breaker(flow.over, firm_w):
                return self._collapse(OUT_TICKS, load, sun, firm_w, tick)
        else:
            if x > firm_w:
                if not self.droop:
                    return self._collapse(DARK_TICKS, load, sun, firm_w, tick)
                spare = give - u
                short = x - firm_w
                if short > self._helped(SHED_HZ, spare):
                    if self._shed(short, spare, load, tick):
                        return self._collapse(DARK_TICKS, load, sun, firm_w, tick)
                    served = float(load[self.on].sum())
                    x = served - made - float(u.sum())
                    short = x - firm_w
                if short > 0:
                    flow.hz = self._settled(short, spare)
                    helped = np.minimum(spare, self.power_w * (FULL_HZ - flow.hz) * DROOP_PER_HZ)
                    u = u + helped * (short / max(float(helped.sum()), 1e-9))
                    x = firm_w
            if x < 0:
                room = u + take
                whole = float(room.sum())
                taken = min(-x, whole) if self.droop else 0.0
                if taken > 0:
                    u = u - room * (taken / whole)
                flow.curtailed = -x - taken
                flow.hz = NOMINAL_HZ + (OVER_HZ - NOMINAL_HZ) * (taken / whole if taken > 0 else 0.0)
                if flow.curtailed > 0:
                    flow.hz = min(TOP_HZ, OVER_HZ + flow.curtailed / max(made, 1.0) / DROOP_PER_HZ)
            elif x < firm_w:
                flow.hz = NOMINAL_HZ - (NOMINAL_HZ - FULL_HZ) * x / firm_w
            elif x == firm_w and flow.hz == NOMINAL_HZ:
                flow.hz = FULL_HZ
            flow.firm = min(max(x, 0.0), firm_w)
        flow.served, flow.battery = served, float(u.sum())
        self.held_wh = np.clip(self.held_wh - np.where(u >= 0, u / ETA, u * ETA) * HOURS, 0.0, self.energy_wh)
        self.battery_w, self.droop_w = u, u - asked
        used = load.sum(axis=1) if not self.any_open else (load * self.on).sum(axis=1)
        self.net_w = sun * (1 - flow.curtailed / max(made, 1.0)) - used
        self.net_w[self.at] += u
        self._count(flow, load)
        return flow

    def _count(self, flow: Flow, load: Ints) -> None:
        totals = self.totals
        totals.unserved_wh += flow.over * HOURS
        totals.over_wh += flow.over * HOURS
        if self.any_open:
            off = ~self.on
            totals.unserved_wh += float(load[off].sum()) * HOURS
            totals.critical_wh += float(load[:, 0][off[:, 0]].sum()) * HOURS
            totals.lost_node_min += float((off[:, 0] | off[:, 1]).sum()) * TICK_S / 60
        totals.curtailed_wh += flow.curtailed * HOURS
        totals.min_hz = min(totals.min_hz, flow.hz)
        totals.low_hz_min += TICK_S / 60 * (flow.hz < SHED_HZ)
        self.hz, self.flow = flow.hz, flow

    def _helped(self, hz: float, spare: Floats) -> float:
        """W of droop at this frequency."""
        return float(np.minimum(spare, self.power_w * max(0.0, FULL_HZ - hz) * DROOP_PER_HZ).sum())

    def _settled(self, short_w: float, spare: Floats) -> float:
        """The frequency at which droop gives `short_w`; the lower the more inverters have no more to give."""
        ends = spare / self.power_w
        order = np.argsort(ends)
        full_w = np.concatenate(([0.0], np.cumsum(spare[order])))
        rising_w = np.concatenate((np.cumsum(self.power_w[order][::-1])[::-1], [0.0]))
        at = int(np.searchsorted(full_w[:-1] + rising_w[:-1] * ends[order], short_w))
        part = (short_w - float(full_w[at])) / float(rising_w[at]) if rising_w[at] else 1.0
        return max(SHED_LAST_HZ - 1.0, FULL_HZ - part / DROOP_PER_HZ)

    def _shed(self, short_w: float, spare: Floats, load: Ints, tick: int) -> bool:
        """The groups that the swing reaches are opened, then as many as the balance needs. True: the plant tripped."""
        day = tick * TICK_S // (SLOTS * SLOT_S)
        if day != self._day:
            self._day, self._group = day, stages(self._ids, day)
        groups: Floats = np.bincount(self._group.ravel(), (load * self.on).ravel(), GROUPS).astype(np.float64)
        dropped, lowest = swing(min(self.hz, FULL_HZ), short_w, groups, spare, self.power_w, self._rated_w)
        left = short_w - float(groups[:dropped].sum())
        while dropped < GROUPS and left > self._helped(float(THRESHOLDS[dropped]), spare):
            left -= float(groups[dropped])
            dropped += 1
            lowest = min(lowest, float(THRESHOLDS[dropped - 1]))
        self.totals.min_hz = min(self.totals.min_hz, max(lowest, TRIP_HZ))
        if lowest < TRIP_HZ or left > self._helped(SHED_LAST_HZ - 0.5, spare) + 1.0:
            return True
        self.open(self._group < dropped, load, tick)
        return False

    def _breaker(self, over_w: float, limit_w: float) -> bool:
        if over_w > limit_w * BREAKER_FREE:
            self._heat_s += TICK_S * (over_w / limit_w if limit_w > 1 else 1e9)
        else:
            self._heat_s = max(0.0, self._heat_s - TICK_S * BREAKER_REST)
        return self._heat_s > BREAKER_S

    def _collapse(self, ticks: int, load: Ints, sun: Ints, firm_w: float, tick: int) -> Flow:
        self.totals.blackouts += 1
        self.totals.min_hz = min(self.totals.min_hz, TRIP_HZ if self.mode == "island" else NOMINAL_HZ)
        self._heat_s = 0.0
        self.dark = ticks
        return self._darkness(load, sun, firm_w, tick)

    def _darkness(self, load: Ints, sun: Ints, firm_w: float, tick: int) -> Flow:
        """Nobody has anything; at its end everything (without droop) or the critical class is tried again."""
        self.dark -= 1
        totals, nodes = self.totals, len(load)
        totals.unserved_wh += float(load.sum()) * HOURS
        totals.critical_wh += float(load[:, 0].sum()) * HOURS
        made = float(sun.sum())
        totals.curtailed_wh += made * HOURS
        totals.lost_node_min += nodes * TICK_S / 60
        self.battery_w, self.droop_w, self.net_w = np.zeros(len(self.at)), np.zeros(len(self.at)), np.zeros(nodes)
        self.setpoint_w = np.zeros(len(self.at))
        self.flow, self.hz = Flow(sun=made, curtailed=made, hz=0.0), NOMINAL_HZ
        if not self.dark:
            tried = np.zeros_like(self.on)
            tried[:, : CLASSES if not self.droop else 1] = True
            self.open(~tried, load, tick)
            self.close(tried, tick)
            could = firm_w + made + float(self.can_give().sum())
            if self.mode == "island" and float(load[tried].sum()) > 0.95 * could:
                self.dark = DARK_TICKS
        return self.flow


def stages(ids: tuple[str, ...], day: int) -> Ints:
    """The place [n, 4] of each block in the order of under-frequency shedding, as agent/local.py has it."""
    span = RULE.shed_to_mhz - RULE.shed_from_mhz
    below = [[shed_below_mhz(id_, day, each, RULE) - RULE.shed_from_mhz for each in range(CLASSES)] for id_ in ids]
    return np.rint(np.array(below) * (GROUPS - 1) / span).astype(np.int64)


def swing(hz: float, short_w: float, groups_w: Floats, spare: Floats, power_w: Floats, rated_w: float) -> tuple[int, float]:
    """Two seconds of df/dt = f0 * dP / (2 * H * S) from `hz` on: (how many of the groups opened in turn, the lowest frequency)."""
    steps, wait = round(TICK_S / SWING_S), round(RELAY_S / SWING_S)
    helped, reached, dropped, lowest = 0.0, 0, 0, hz
    orders: list[int] = []  # the step at which each reached group opens
    for step in range(steps):
        limits = power_w * max(0.0, FULL_HZ - hz) * DROOP_PER_HZ
        helped += (float(np.minimum(spare, limits).sum()) - helped) * SWING_S / INVERTER_S
        while dropped < len(orders) and orders[dropped] <= step:
            short_w -= float(groups_w[dropped])
            dropped += 1
        hz += NOMINAL_HZ * (helped - short_w) / (2 * INERTIA_S * max(rated_w, 1.0)) * SWING_S
        hz = min(hz, FULL_HZ)  # above it the grid-forming unit backs off
        lowest = min(lowest, hz)
        while reached < GROUPS and hz < THRESHOLDS[reached]:
            orders.append(step + wait)
            reached += 1
        if lowest < TRIP_HZ:
            break
    return dropped, lowest
