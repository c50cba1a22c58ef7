"""Curves: a household's load, sun and battery as pure functions of a seed and the simulated time, and what its meters count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from drivers.reading import Number

STEP_S = 10.0  # watts stand still for this long of wall time, so that a network at speed 1 rests between the steps
LEAP_STEPS = 100_000  # more were missed because the clock was set: a Raspberry Pi boots without the time
DAY_S = 86_400.0
HOUR_S = 3600.0

Quantity = Literal["grid", "load", "pv", "battery"]


@dataclass(frozen=True, slots=True)
class Flows:
    """A household's watts at one moment."""

    load_w: int  # >= 0
    pv_w: int  # >= 0, made
    battery_w: int  # + charging
    soc_pct: float

    @property
    def grid_w(self) -> int:
        """+ from the grid."""
        return self.load_w - self.pv_w + self.battery_w

    def meter_w(self, quantity: Quantity) -> int:
        """What a meter for it shows: + in its import direction, so that a producing pv meter shows negative watts."""
        return {"grid": self.grid_w, "load": self.load_w, "pv": -self.pv_w, "battery": self.battery_w}[quantity]


@dataclass(frozen=True, slots=True)
class Household:
    """Sizes of a household; `at` gives its flows. Two equal households have equal flows, in any process."""

    seed: int
    load_peak_w: int = 2000
    pv_peak_w: int = 0
    battery_w: int = 0
    battery_wh: int = 0

    def at(self, time_s: float) -> Flows:
        """The flows `time_s` seconds after the midnight before the simulation began."""
        day, of_day_s = int(time_s // DAY_S), time_s % DAY_S
        hour = of_day_s / HOUR_S
        charge_w, soc_pct = self._battery(hour)
        return Flows(self._load(day, of_day_s), self._sun(day, hour), charge_w, soc_pct)

    def _load(self, day: int, of_day_s: float) -> int:
        """A base, a morning and an evening peak, one appliance in half of the hours, and a little noise each minute."""
        hour = of_day_s / HOUR_S
        share = 0.10 + 0.30 * _bell(hour, 7.5, 1.0) + 0.50 * _bell(hour, 19.5, 1.7)
        appliance = Random(f"appliance {self.seed} {day} {int(hour)}")
        runs, begins, lasts, draws = (appliance.random() for _ in range(4))
        if runs < 0.5 and begins * 0.5 <= hour % 1 < begins * 0.5 + 0.1 + 0.4 * lasts:
            share += 0.15 + 0.25 * draws
        noise = Random(f"noise {self.seed} {day} {int(of_day_s // 60)}").uniform(0.97, 1.03)
        return round(self.load_peak_w * min(1.0, share * noise))

    def _sun(self, day: int, hour: float) -> int:
        """Half a sine from six to twenty under clouds that drift from one ten-minute value to the next; 0 at night."""
        if not 6 < hour < 20:
            return 0
        overcast = Random(f"day {self.seed} {day}").uniform(0.0, 0.6)
        slot = int(hour * 6)
        before, after = (1 - overcast * Random(f"cloud {self.seed} {day} {k}").random() for k in (slot, slot + 1))
        cloud = before + (after - before) * (hour * 6 - slot)
        return round(self.pv_peak_w * math.sin(math.pi * (hour - 6) / 14) * cloud)

    def _battery(self, hour: float) -> tuple[int, float]:
        """(watts, state of charge): charges from ten to fourteen, gives it back from eighteen to twenty-two."""
        if not self.battery_wh:
            return 0, 0.0
        power_w = min(self.battery_w, self.battery_wh // 4)
        hours_in = min(max(hour - 10, 0.0), 4.0) - min(max(hour - 18, 0.0), 4.0)
        now_w = power_w if 10 <= hour < 14 else -power_w if 18 <= hour < 22 else 0
        return now_w, round(100 * power_w * hours_in / self.battery_wh, 1)


def _bell(hour: float, middle: float, width: float) -> float:
    return math.exp(-(((hour - middle) / width) ** 2))


def random_walk(seed: str, start_w: int, jitter_w: int) -> Callable[[int], int]:
    """Watts by step, asked for in rising order: each at most jitter_w from the one before and 20 * jitter_w from start_w."""
    random, at, off_w = Random(seed), 0, 0

    def watts(step: int) -> int:
        nonlocal at, off_w
        if step > at:
            at = step
            off_w = max(-20 * jitter_w, min(20 * jitter_w, off_w + random.randint(-jitter_w, jitter_w)))
        return start_w + off_w

    return watts


class Dial:
    """A meter's power and its two counters, step by step. The counters hold exactly the watts of the steps gone by."""

    def __init__(self, watts: Callable[[int], int], step_s: float, import_wh: int, export_wh: int) -> None:
        """`watts` gives the power of step 0, 1, 2, …; `step_s` is a step's length in seconds."""
        self._watts, self._step_ms = watts, round(step_s * 1000)
        self._step, self.w = 0, watts(0)
        self._import_wms, self._export_wms = import_wh * 3_600_000, export_wh * 3_600_000  # watt-milliseconds

    def advance(self, step: int) -> None:
        """Go on to `step`; an earlier one is no way back, and after a leap of the wall clock nothing is counted."""
        if step - self._step > LEAP_STEPS:
            self._step, self.w = step, self._watts(step)
        while self._step < step:
            self._import_wms += max(self.w, 0) * self._step_ms
            self._export_wms += max(-self.w, 0) * self._step_ms
            self._step += 1
            self.w = self._watts(self._step)

    @property
    def import_wh(self) -> int:
        return self._import_wms // 3_600_000

    @property
    def export_wh(self) -> int:
        return self._export_wms // 3_600_000


def face(dial: Dial, phases: int, seed: str, step: int, soc_pct: float, hz: float) -> Mapping[str, Number]:
    """Every quantity that a meter with this dial could show; the phases add up to w, and amps are watts by volts."""
    split = Random(f"{seed} shares")
    shares = [split.uniform(0.2, 0.4) for _ in range(2)] if phases == 3 else [1.0, 0.0]
    w_l1, w_l2 = (round(dial.w * share) for share in shares)
    per_phase = {"l1": w_l1, "l2": w_l2, "l3": dial.w - w_l1 - w_l2}
    values: dict[str, Number] = {"w": dial.w, "var": 0, "va": abs(dial.w), "hz": hz, "pf": 1.0, "soc_pct": soc_pct, "temp_c": 25.0}
    wobble = Random(f"{seed} volts {step}")
    for phase, watts in per_phase.items():
        volts = round(230 + wobble.uniform(-2, 2), 1)
        values |= {f"w_{phase}": watts, f"v_{phase}": volts, f"a_{phase}": round(abs(watts) / volts, 3)}
    return values | {"import_wh": dial.import_wh, "export_wh": dial.export_wh}
