"""The three controls: none, droop with under-frequency shedding, and the agents' own plan on records that travelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.dispatch import NONE, Classes, Flex, Mode, Settings, Share, dispatch
from agent.guards import BACK_S, CLOSURE_PM, CLOSURE_S, SLACK_S, WARM_S
from agent.local import Frequency, Local, droop_w
from agent.simulate.comms import DAY_TICKS, Comms
from agent.simulate.data import CLASSES, ETA, TICK_S, Floats, Ints, Scene
from agent.simulate.physics import Plant

MIN_TICKS = 5  # a relay stays 10 s: resistive loads (PRICE-AND-BALANCE.md 3)
OFFER_S = 60  # a battery offers what it can keep up for so long
LARGE = 20  # from so many nodes on they take turns, or two days of 53 nodes would take minutes
QUIET = 10  # a battery's line is planned anew each so many ticks while nobody could be shed and no two tables are alike
RING = 256  # ticks of records that are kept; older ones are kept singly
RULE = Frequency()
# under a plan the bias keeps the generator full and thus the frequency below 49.8 Hz for hours: what the frequency opened may
# come back above 49.5 Hz, or it stays open although the plan has room (4 nodes, 2 days: 2.37 instead of 1.04 times the bound)
PLANNED = Frequency(restore_mhz=500)


class Case(Protocol):
    """Decides before each tick of physics, on what the plant showed in the tick before."""

    plant: Plant

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None: ...


class Nothing:
    """Every battery serves its own house; nothing is shed, no inverter heeds the frequency."""

    def __init__(self, scene: Scene, mode: Mode) -> None:
        self.plant = Plant(scene, mode, droop=False)

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        at = self.plant.at
        self.plant.setpoint_w = (load[at].sum(axis=1) - sun[at]).astype(np.float64)


class Node:
    """What a node keeps between ticks when it follows its own frequency (agent/local.py)."""

    def __init__(self, id_: str) -> None:
        self.local = Local(id_, RULE)
        self.seen = -1  # the last tick at which it looked


class Alone:
    """Droop, under-frequency shedding and restoring, each node by its own meter: agent/local.py without any plan."""

    def __init__(self, scene: Scene, mode: Mode) -> None:
        self.plant = Plant(scene, mode, droop=True)
        self._scene, self._mode, self._rule = scene, mode, RULE
        self._nodes = [Node(id_) for id_ in scene.ids]
        self._battery = {int(node): k for k, node in enumerate(self.plant.at)}
        self._pace = 1 if len(scene.ids) < LARGE else 2
        self._good = self._tick = 0  # since this tick the frequency has been good

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        self._watch(tick)
        if not self.plant.dark:
            awake = self._awake()
            offers = flexes(self.plant, load, sun, self._battery, awake)
            for node, flex in zip(awake, offers, strict=True):
                self._alone(node, flex, load, tick, heard=0)

    def _watch(self, tick: int) -> None:
        self._tick = tick
        if self.plant.hz < (RULE.nominal_mhz - self._rule.restore_mhz) / 1000 or self.plant.dark:
            self._good = tick + 1

    def _awake(self) -> list[int]:
        """Nodes for which local control could change anything: with a battery, or with an open block while that may return."""
        awake = {node for node in self._battery if (node + self._tick) % self._pace == 0}
        if self.plant.any_open and self._good <= self._tick:
            awake |= set(np.flatnonzero(~self.plant.on.all(axis=1)).tolist())
        return sorted(awake)

    def _alone(self, node: int, flex: Flex, load: Ints, tick: int, heard: int, plan: Share | None = None) -> None:
        """One step of the node's own rule, applied. Its shedding within two seconds is in the plant."""
        plant, state = self.plant, self._nodes[node]
        opened = classes(plant.on[node])
        local = state.local
        local.rule = RULE if plan is None else PLANNED
        if tick - state.seen > self._pace:  # it had nothing to do meanwhile, and the frequency is everybody's
            local.good_s = float(self._good * TICK_S) if self._good <= tick else None
        state.seen = tick
        local.tripped |= {each for each in range(CLASSES) if opened[each] and plant.by_hz[node, each]}
        hz = plant.hz if self._mode == "island" else None
        applied = local.step(flex, opened, plant.hz, heard, plan, self._mode, tick // DAY_TICKS, float(tick * TICK_S))
        if node in self._battery:
            watts = applied.battery_w
            away = RULE.away_mhz(hz)
            if away is not None and away < 0:
                watts -= droop_w(away, flex, RULE)  # the inverter's own droop is in the plant already
            plant.setpoint_w[self._battery[node]] = watts
        self._apply(node, applied.open, applied.hold, load, tick)

    def _apply(self, node: int, wanted_open: Classes, hold: Classes, load: Ints, tick: int) -> None:
        plant = self.plant
        for each in range(CLASSES):
            if tick - plant.since[node, each] < MIN_TICKS:
                continue
            if plant.on[node, each]:
                if wanted_open[each] and load[node, each]:
                    plant.open_one(node, each, int(load[node, each]), tick)
            elif not wanted_open[each] and not hold[each]:
                plant.close_one(node, each, tick)


class Grid(Alone):
    """Every node runs the plan of agent/dispatch.py on the records that it has, under the guards, and applies its own line."""

    def __init__(
        self, scene: Scene, mode: Mode, comms: Comms, settings: Settings, every: int = 0,
        liar: int | None = None, deaf: int | None = None,
    ) -> None:  # fmt: skip
        """`every`: a node whose table is like nobody else's plans each so many ticks (0: chosen by size). `liar` tells ten times
        its load, `deaf` obeys no plan."""
        super().__init__(scene, mode)
        self._rule = PLANNED
        nodes = len(scene.ids)
        self._comms, self._settings, self._liar, self._deaf = comms, settings, liar, deaf
        self._every = every or max(1, min(5, nodes // 10))
        self._ring: list[list[Flex]] = [[] for _ in range(RING)]
        self._sums: Ints = np.zeros((RING, nodes, 4), dtype=np.int64)  # wanted, what is offered, measured net, firm
        self._old: dict[tuple[int, int], Flex] = {}
        self._lines: list[Share | None] = [None] * nodes
        self._closure: Floats = np.zeros(nodes)
        self._lost = np.full(nodes, -(10**9))
        self._warm = np.zeros(nodes, dtype=bool)
        self._column = np.arange(nodes)[None, :]
        self._slack_w = 0

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        self._watch(tick)
        plant = self.plant
        told = self._publish(tick, load, sun, firm_w)
        self._comms.step(tick)
        if plant.dark:
            return
        planned, needing = self._look(tick)
        self._plan(tick, planned, needing)
        for node in self._busy(planned):
            line = self._lines[node] if node != self._deaf else None
            if line is None or (plant.by_hz[node].any() and self._good <= tick):
                self._alone(node, told[node], load, tick, int(planned[node]), line)
                continue
            if plant.by_hz[node].any():
                line = Share(line.open, line.battery_w, None, classes(~plant.by_hz[node]))  # local control would hold them
            self._nodes[node].seen = -1
            if node in self._battery:
                plant.setpoint_w[self._battery[node]] = line.battery_w
            self._apply(node, line.open, line.hold, load, tick)

    def _publish(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> list[Flex]:
        """Every node's record of this tick: what is wanted now, what was measured in the tick before."""
        plant = self.plant
        told = load
        if self._liar is not None:
            told = load.copy()
            told[self._liar] *= 10
        flow = plant.flow
        slack = round(flow.firm + flow.over - flow.exported)
        offers = flexes(plant, told, sun, self._battery, range(len(load)), firm_w, slack)
        at = tick % RING
        self._ring[at] = offers
        sums = self._sums[at]
        sums[:, 0] = told.sum(axis=1) if not plant.any_open else np.where(plant.on, told, plant.open_w).sum(axis=1)
        sums[:, 1] = sun
        for node in self._battery:
            sums[node, 1] += offers[node].dis_w
        sums[:, 2] = np.rint(plant.net_w)
        sums[0, 2] += slack
        sums[0, 3] = firm_w
        if self._liar is not None:
            sums[self._liar, 2] -= 9 * int((load[self._liar] * plant.on[self._liar]).sum()) if not plant.dark else 0
        return offers

    def _look(self, tick: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By node: whether it may plan (agent/guards.py), and whether its table could make it shed."""
        last = self._comms.last
        age_s = (tick - last) * TICK_S
        known = last >= 0
        self._keep(tick)
        picked = self._sums[last % RING, self._column]
        picked = np.where(known[:, :, None], picked, 0)
        silent = age_s > self._settings.stale_s + self._settings.lag_s
        if silent.any():
            self._silence(picked, silent)
        wanted, offered = picked[:, :, 0].sum(axis=1), picked[:, :, 1].sum(axis=1)
        heard = known[:, 0] & (age_s[:, 0] <= SLACK_S + self._settings.lag_s)
        self._lost[~heard] = tick
        now_s = tick * TICK_S
        self._warm |= (known & ~silent).all(axis=1) | (now_s >= WARM_S)
        planned = heard & self._warm & ((tick - self._lost) * TICK_S >= BACK_S)
        firm = picked[:, 0, 3]
        most = np.maximum(wanted, firm) * CLOSURE_PM / 1000
        seen = np.clip(picked[:, :, 2].sum(axis=1), -most, most)
        self._closure = np.where(heard, self._closure + (seen - self._closure) * min(1.0, TICK_S / CLOSURE_S), 0.0)
        spare = offered + firm * 0.9 + np.maximum(-self._closure, 0) - np.maximum(self._closure, 0)
        return planned, wanted * (1 + self._settings.margin_pm / 1000) >= spare

    def _silence(self, picked: Ints, silent: NDArray[np.bool_]) -> None:
        """Who follows no plan counts there with load and sunshine, so here too."""
        for (node, other), flex in self._old.items():
            if silent[node, other]:
                picked[node, other] = (sum(flex.load), flex.pv_w, flex.pv_w - sum(flex.load), 0)

    def _keep(self, tick: int) -> None:
        """Records that leave the ring stay with those who heard nothing newer."""
        leaving = np.argwhere(self._comms.last == tick - RING + 1) if tick >= RING - 1 else ()
        for node, other in leaving:
            self._old[int(node), int(other)] = self._ring[(tick + 1) % RING][other]

    def _plan(self, tick: int, planned: NDArray[np.bool_], needing: NDArray[np.bool_]) -> None:
        """New lines for the nodes whose turn it is; nodes with the same table share one computation."""
        groups: dict[tuple[bytes, int], list[int]] = {}
        last = self._comms.last
        closures = np.rint(self._closure).astype(np.int64)
        for node in range(len(last)):
            if not planned[node]:
                self._lines[node] = None
            else:
                groups.setdefault((last[node].tobytes(), int(closures[node])), []).append(node)
        alone = len(groups) > 4
        for (_, closure_w), members in groups.items():
            due = [node for node in members if not alone or self._lines[node] is None or (tick + node) % self._every == 0]
            quiet = alone and tick % QUIET >= self._every
            work = [node for node in due if needing[node] or (node in self._battery and not quiet)]
            for node in due:
                held = self._lines[node]
                self._lines[node] = IDLE if held is None or node not in self._battery else Share(NONE, held.battery_w, None)
            if work:
                plan = dispatch(self._table(work[0], tick), tick // DAY_TICKS, self._mode, self._settings, closure_w)
                for node in work:
                    self._lines[node] = plan[self._scene.ids[node]]

    def _table(self, node: int, tick: int) -> dict[str, tuple[Flex, float]]:
        ids, ring, last = self._scene.ids, self._ring, self._comms.last[node].tolist()
        table: dict[str, tuple[Flex, float]] = {}
        for other, at in enumerate(last):
            if at >= 0:
                flex = ring[at % RING][other] if tick - at < RING - 1 else self._old[node, other]
                table[ids[other]] = (flex, float((tick - at) * TICK_S))
        return table

    def _busy(self, planned: NDArray[np.bool_]) -> list[int]:
        busy = set(self._awake())
        if self.plant.any_open:
            busy |= set(np.flatnonzero(~self.plant.on.all(axis=1)).tolist())
        busy |= {node for node, line in enumerate(self._lines) if line is not None and line.open != NONE}
        return sorted(busy)


IDLE = Share(NONE, 0, None)


def classes(on: NDArray[np.bool_]) -> Classes:
    """Which are open."""
    one, two, three, four = on.tolist()
    return not one, not two, not three, not four


def flexes(
    plant: Plant, load: Ints, sun: Ints, battery: dict[int, int], nodes: Sequence[int], firm_w: int = 0, slack_w: int | None = None
) -> list[Flex]:  # fmt: skip
    """What each of `nodes` offers: an open block with what it drew when it was opened. Node 0 has the firm supply."""
    wanted = (np.where(plant.on, load, plant.open_w) if plant.any_open else load).tolist()
    made = sun.tolist()
    give = np.minimum(plant.power_w, plant.held_wh * ETA * 3600 / OFFER_S).tolist()
    take = np.minimum(plant.power_w, np.maximum(plant.energy_wh - plant.held_wh, 0) / ETA * 3600 / OFFER_S).tolist()
    offers = []
    for node in nodes:
        k = battery.get(node)
        if k is None:
            offers.append(Flex(tuple(wanted[node]), made[node]))
            continue
        held, power = float(plant.held_wh[k]), float(plant.power_w[k])
        lasts_s, set_w = int(held * ETA * 3600 / power), round(float(plant.battery_w[k]))
        dis_w, chg_w, cap_wh = int(give[k]), int(take[k]), int(plant.energy_wh[k])
        offers.append(Flex(tuple(wanted[node]), made[node], dis_w, chg_w, lasts_s, int(held), cap_wh, 0, set_w))
    if slack_w is not None:
        own = offers[0]
        offers[0] = Flex(
            own.load, own.pv_w, own.dis_w, own.chg_w, own.ttg_s, own.soc_wh, own.cap_wh, int(firm_w), own.applied_w, slack_w
        )  # fmt: skip
    return offers
