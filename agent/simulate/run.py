"""One run: the same weather under every control, and the bound of that realisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agent.dispatch import Mode, Settings
from agent.simulate.bound import bound_wh
from agent.simulate.cases import Alone, Case, Grid, Nothing
from agent.simulate.comms import Comms
from agent.simulate.data import TICKS, Floats, Scene, synthetic, weather
from agent.simulate.physics import HOURS, Totals

CASES = ("none", "droop", "grid")
LEAST_BOUND = 1e-5  # of the demand


@dataclass(frozen=True, slots=True)
class Setup:
    """What is asked for; the defaults are those of the command."""

    nodes: int = 4
    days: int = 2
    start: int = 15
    hop_s: float = 0.2
    loss: float = 0.0
    partition_h: float = 0.0
    data: str = "synthetic"
    mode: Mode = "island"
    seed: int = 1
    cases: tuple[str, ...] = CASES
    every: int = 0
    liar: int | None = None
    deaf: int | None = None


@dataclass(slots=True)
class Trace:
    """Of one case, a value a tick."""

    hz: list[float] = field(default_factory=list)
    short_w: list[float] = field(default_factory=list)  # wanted and not given
    net_w: list[float] = field(default_factory=list)  # made - wanted, without firm supply and batteries
    scarce: list[float] = field(default_factory=list)  # wanted / available: the price of an island follows it


@dataclass(frozen=True, slots=True)
class Result:
    bound_wh: float
    demand_wh: float
    cases: dict[str, Totals]
    traces: dict[str, Trace]
    nodes: int

    def ratio(self, totals: Totals) -> float | None:
        """To the bound; None where the bound is next to nothing, and any ratio to it would be noise."""
        return totals.unserved_wh / self.bound_wh if self.bound_wh > LEAST_BOUND * self.demand_wh else None

    def as_json(self) -> dict[str, object]:
        """What `grid simulate --json` prints."""
        return {
            "bound_kwh": _kwh(self.bound_wh),
            "demand_kwh": _kwh(self.demand_wh),
            "cases": {
                name: {
                    "unserved_kwh": _kwh(totals.unserved_wh),
                    "ratio": None if (ratio := self.ratio(totals)) is None else round(ratio, 6),
                    "blackouts": totals.blackouts,
                    "critical_kwh": _kwh(totals.critical_wh),
                    "min_hz": round(totals.min_hz, 3),
                    "switches": totals.switches,
                    "saidi_min": round(totals.lost_node_min / self.nodes, 3),
                    "curtailed_kwh": _kwh(totals.curtailed_wh),
                }
                for name, totals in self.cases.items()
            },
        }


def _kwh(watt_hours: float) -> float:
    return round(watt_hours / 1000, 6)


def scene_of(setup: Setup) -> Scene:
    """The neighbourhood. Raises DataMissing when the data are not installed."""
    if setup.data == "simbench":
        from agent.simulate.simbench import simbench

        return simbench(setup.nodes, setup.days, setup.start, setup.seed, setup.mode)
    return synthetic(setup.nodes, setup.days, setup.start, setup.seed, setup.mode)


def run(setup: Setup, scene: Scene, done: Callable[[int, int], None] = lambda slot, slots: None, trace: bool = False) -> Result:
    """`done(slot, of)` after each slot of 15 minutes."""
    cases = {name: _case(name, setup, scene) for name in setup.cases}
    traces = {name: Trace() for name in setup.cases} if trace else {}
    need: Floats = np.empty(scene.slots * TICKS)
    demand_wh, tick = 0.0, 0
    for slot, (load, sun) in enumerate(weather(scene, setup.seed)):
        firm_w = int(scene.firm_w[slot])
        wanted, made = load.sum(axis=(1, 2)), sun.sum(axis=1)
        need[tick : tick + TICKS] = wanted - made - firm_w
        demand_wh += float(wanted.sum()) * HOURS
        for k in range(TICKS):
            for name, case in cases.items():
                case.decide(tick, load[k], sun[k], firm_w)
                flow = case.plant.step(load[k], sun[k], float(firm_w), tick)
                if trace:
                    lines = traces[name]
                    lines.hz.append(flow.hz)
                    lines.short_w.append(float(wanted[k]) - flow.served + flow.over)
                    lines.net_w.append(float(made[k] - wanted[k]))
                    lines.scarce.append(float(wanted[k]) / max(1.0, float(made[k]) + firm_w + float(case.plant.can_give().sum())))
            tick += 1
        done(slot + 1, scene.slots)
    bound = bound_wh(need, scene.battery_w, scene.battery_wh)
    return Result(bound, demand_wh, {name: case.plant.totals for name, case in cases.items()}, traces, len(scene.ids))


def _case(name: str, setup: Setup, scene: Scene) -> Case:
    if name == "none":
        return Nothing(scene, setup.mode)
    if name == "droop":
        return Alone(scene, setup.mode)
    comms = Comms(len(scene.ids), setup.seed, setup.hop_s, setup.loss, setup.partition_h)
    return Grid(scene, setup.mode, comms, Settings(lag_s=comms.lag_s), setup.every, setup.liar, setup.deaf)
