"""The three controls: none, droop with under-frequency shedding, and the agents' own plan on records that travelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.dispatch import CLASSES, NONE, Classes, Flex, Mode, Settings, Share
from agent.local import Frequency, Local
from agent.offer import LASTS_S
from agent.simulate.comms import DAY_TICKS, Comms
from agent.simulate.data import ETA, TICK_S, Flags, Ints, Scene
from agent.simulate.physics import NOMINAL_HZ, Plant
from agent.simulate.plans import Plans, Records
from agent.switches import MIN_ON_S

MIN_TICKS = MIN_ON_S["resistive"] // TICK_S
LARGE = 20  # from so many nodes on they look after their own batteries each second tick, or two days of 53 would take minutes
PLANNERS = 100  # at most so many nodes plan anew in one tick; 500 nodes each 10 s
RULE = Frequency()
FINE_HZ = (RULE.nominal_mhz - RULE.restore_mhz) / 1000 + 0.001
IDLE = Share(NONE, 0, None)
ALL: Classes = (True, True, True, True)
NOTHING = Flex((0, 0, 0, 0))


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


class Alone:
    """Droop, under-frequency shedding and restoring, each node by its own meter: agent/local.py without any plan."""

    def __init__(self, scene: Scene, mode: Mode) -> None:
        self.plant = Plant(scene, mode, droop=True)
        self._scene, self._mode = scene, mode
        # the inverters' own droop is in the plant
        self._nodes = [Local(id_, RULE, droop=False) for id_ in scene.ids]
        self._battery = {int(node): k for k, node in enumerate(self.plant.at)}
        self._pace = 1 if len(scene.ids) < LARGE else 2
        # the frequency is everybody's, so one of each kind watches it for all
        self._alone, self._along, self._calm = Local("", RULE), Local("", RULE), True

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        self._look(tick)
        if not self.plant.dark:
            self._locally(self._awake(tick, np.ones(len(self._nodes), dtype=bool)), load, sun, tick)

    def _look(self, tick: int) -> None:
        """What the frequency says to all: with a plan whether blocks that it opened may return, without one since when."""
        hz, now = None if self.plant.dark else self.plant.hz, float(tick * TICK_S)
        known = self._alone.good_s is not None and self._alone.calmed and self._along.good_s is not None and self._along.calmed
        if known and hz is not None and hz > FINE_HZ and not self.plant.any_open:
            return  # nothing could change
        self._alone.step(NOTHING, NONE, hz, 1, None, self._mode, 0, now)
        self._along.tripped = set(range(CLASSES))
        self._calm = not any(self._along.step(NOTHING, ALL, hz, 1, IDLE, self._mode, 0, now).hold)

    def _awake(self, tick: int, alone: Flags) -> list[int]:
        """Nodes without a plan that could do anything: with a battery, or with an open block while that may return."""
        awake = {node for node in self._battery if alone[node] and (node + tick) % self._pace == 0}
        if self.plant.any_open and self._alone.good_s is not None:
            awake |= set(np.flatnonzero(alone & ~self.plant.on.all(axis=1)).tolist())
        return sorted(awake)

    def _locally(self, nodes: list[int], load: Ints, sun: Ints, tick: int, heard: int = 0) -> None:
        """One step of these nodes' own rule, applied. Its shedding within two seconds is in the plant."""
        plant, watch = self.plant, self._alone
        opening, closing = np.zeros_like(plant.on), np.zeros_like(plant.on)
        for node, flex in zip(nodes, flexes(plant, load, sun, self._battery, nodes), strict=True):
            local, opened = self._nodes[node], classes(plant.on[node])
            local.good_s, local.blind_s, local.fell_s = watch.good_s, watch.blind_s, watch.fell_s
            local.calmed, local.slower = watch.calmed, watch.slower
            local.tripped |= {each for each in range(CLASSES) if opened[each] and plant.by_hz[node, each]}
            applied = local.step(flex, opened, plant.hz, heard, None, self._mode, tick // DAY_TICKS, float(tick * TICK_S))
            if node in self._battery:
                plant.setpoint_w[self._battery[node]] = applied.battery_w
            opening[node] = applied.open
            closing[node] = ~(opening[node] | np.array(applied.hold))
        self._turn(opening, closing, load, tick)

    def _turn(self, opening: Flags, closing: Flags, load: Ints, tick: int) -> None:
        """Open and close these blocks, as far as their minimum times are over."""
        plant, may = self.plant, tick - self.plant.since >= MIN_TICKS
        opening = opening & may & plant.on & (load > 0)
        if opening.any():
            plant.open(opening, load, tick, by_hz=False)
        if plant.any_open:
            closing = closing & may & ~plant.on
            if closing.any():
                plant.close(closing, tick)


class Grid(Alone):
    """Every node runs the guards and the plan on the records that it has, and applies its own line."""

    def __init__(
        self, scene: Scene, mode: Mode, comms: Comms, settings: Settings, every: int = 0,
        liar: int | None = None, deaf: int | None = None,
    ) -> None:  # fmt: skip
        """`every`: a node plans anew each so many ticks (0: chosen by size). `liar` tells ten times its load, `deaf` obeys no
        plan."""
        super().__init__(scene, mode)
        nodes = len(scene.ids)
        self._comms, self._liar, self._deaf = comms, liar, deaf
        self._every = every or -(-nodes // PLANNERS)
        self.records = Records(nodes, self.plant.at, (settings.stale_s + settings.lag_s) // TICK_S + 60)
        self.plans = Plans(scene.ids, self.records, mode, settings, NOMINAL_HZ)
        self.planned: Flags = np.zeros(nodes, dtype=bool)
        self._open: Flags = np.zeros((nodes, CLASSES), dtype=bool)
        self._hold: Flags = np.zeros((nodes, CLASSES), dtype=bool)
        self._battery_w: Ints = np.zeros(nodes, dtype=np.int64)

    def decide(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        self._look(tick)
        plant = self.plant
        self._publish(tick, load, sun, firm_w)
        self._comms.step(tick)
        if plant.dark:
            return
        rows = np.arange(tick % self._every, len(load), self._every)
        lines = self.plans.step(rows, self._comms.last, tick, tick // DAY_TICKS, plant.hz)
        self.planned[rows], self._open[rows], self._hold[rows] = lines.planned, lines.open, lines.hold
        self._battery_w[rows] = lines.battery_w
        if self._deaf is not None:
            self.planned[self._deaf] = False
        own = self.planned[plant.at]
        plant.setpoint_w = np.where(own, self._battery_w[plant.at], plant.setpoint_w)
        self._switch(load, tick)
        if not self.planned.all():
            self._locally(self._awake(tick, ~self.planned), load, sun, tick, heard=1)

    def _switch(self, load: Ints, tick: int) -> None:
        """What the plan opens and closes; what the frequency opened returns when that is calm."""
        planned = self.planned[:, None]
        closing = ~(self._open | self._hold) & planned
        if not self._calm:
            closing &= ~self.plant.by_hz
        self._turn(self._open & planned, closing, load, tick)

    def _publish(self, tick: int, load: Ints, sun: Ints, firm_w: int) -> None:
        """Every node's record of this tick: what is wanted now, what was measured in the tick before."""
        plant, records = self.plant, self.records
        records.leave(self._comms.last, tick)
        at = tick % records.ring
        told = load
        if self._liar is not None:
            told = load.copy()
            told[self._liar] *= 10
        records.load[at] = wanted(plant, told)
        records.sun[at] = sun
        records.net[at] = np.rint(plant.net_w)
        if self._liar is not None and not plant.dark:
            records.net[at, self._liar] -= 9 * int((load[self._liar] * plant.on[self._liar]).sum())
        records.store[at] = stores(plant)
        flow = plant.flow
        records.firm[at] = firm_w, round(flow.firm + flow.over - flow.exported)


def wanted(plant: Plant, load: Ints) -> Ints:
    """What every block wants, W: an open one what it drew when it was opened."""
    return np.where(plant.on, load, plant.open_w) if plant.any_open else load


def stores(plant: Plant) -> Ints:
    """Of each battery what it can give and take for a minute, W, how long it lasts, s, what it holds and what it can hold, Wh."""
    held_wh, energy_wh = plant.held_wh, plant.energy_wh
    give_w = np.minimum(plant.power_w, held_wh * ETA * 3600 / LASTS_S)
    take_w = np.minimum(plant.power_w, np.maximum(energy_wh - held_wh, 0) / ETA * 3600 / LASTS_S)
    lasts_s = held_wh * ETA * 3600 / plant.power_w
    return np.stack((give_w, take_w, lasts_s, held_wh, energy_wh), axis=1).astype(np.int64)


def classes(on: NDArray[np.bool_]) -> Classes:
    """Which are open."""
    one, two, three, four = on.tolist()
    return not one, not two, not three, not four


def flexes(plant: Plant, load: Ints, sun: Ints, battery: dict[int, int], nodes: Sequence[int]) -> list[Flex]:
    """What each of `nodes` can do, for its own rule; `battery`: the place of a node's among the plant's."""
    loads, made, held = wanted(plant, load).tolist(), sun.tolist(), stores(plant).tolist()
    return [Flex(tuple(loads[node]), made[node], *(held[battery[node]] if node in battery else ())) for node in nodes]
