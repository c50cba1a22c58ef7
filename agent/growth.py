"""How a node's registers grow: by its meters' own counters, that may fall, leap or fall silent, or by power added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drivers.reading import Reading, Role

CONFIRM_S, CONFIRM = 300.0, 10  # a counter that fell or leapt is believed when it goes on from there so long and often
HANDOVER_S = 3600.0  # counters that are gone for so long, while power is there, are not coming back
LOST_S = 30 * 86_400.0  # the longest power cut whose energy is believed when the clock cannot tell how long it was
STEP_WH = 1000  # some counters count whole kWh
WMS = 3_600_000  # watt-milliseconds in a watt-hour

Counters = Mapping[str, tuple[int, int]]
"""By meter's name its own counters (import, export) in Wh."""


def counters(readings: Sequence[tuple[str, Role, Reading]]) -> Counters | None:
    """The counters of all grid meters; None when there is no such meter, or one did not tell both of its counters.

    Other meters do not count: what flows between a node's own meters never passed the grid.
    """
    grid = [(name, reading) for name, role, reading in readings if role == "grid"]
    if not grid or any(r.quality != "good" or not {"import_wh", "export_wh"} <= r.values.keys() for _, r in grid):
        return None
    return {name: (int(reading.values["import_wh"]), int(reading.values["export_wh"])) for name, reading in grid}


class Odd(NamedTuple):
    """Counters that fell or leapt: since when and how often they went on steadily from there, and where they were last."""

    since_s: float
    times: int
    counters: Counters
    now: float


@dataclass(slots=True)
class Growth:
    """Registers that go on from the node's meters' own counters, and start at them, so that a person can compare.

    Without counters power is added up. `why` and `lost` say of what flowed since they were last taken: why it is less than exact
    (the words of agent/edges.py), and whether a part of it is in no register.
    """

    rated_w: int
    gap_s: float
    import_wms: int = 0
    export_wms: int = 0
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    why: set[str] = field(default_factory=set)
    lost: bool = False
    _heard_s: float | None = None  # when the counters last counted, in this run
    _silent_s: float | None = None  # since when they do not
    _odd: Odd | None = None
    _power: tuple[int, float] | None = None

    def advance(
        self, counted: Counters | None, net_w: int | None, known_s: float | None, unix_s: float, clock_good: bool, now: float
    ) -> bool:
        """Let the registers grow; False when nothing new is known. `known_s`: the moment of which they are known, None at first."""
        if counted is not None:
            self._power = self._silent_s = None
            return self._count(counted, known_s, unix_s, clock_good, now)
        if self.counters:
            self._silent_s = now if self._silent_s is None else self._silent_s
            if net_w is None or now - self._silent_s < HANDOVER_S:
                return False
            self.counters.clear()
        if net_w is None:
            return False
        self.why.add("integrated")
        last, self._power = self._power, (net_w, now)
        if last is None or now - last[1] > self.gap_s:
            self.lost = True
            return True
        wms = last[0] * round((now - last[1]) * 1000)
        self.import_wms += max(0, -wms)
        self.export_wms += max(0, wms)
        return True

    def take(self) -> tuple[set[str], bool]:
        """`why` and `lost`, for what flowed until now; they begin anew."""
        why, lost = self.why, self.lost
        self.why, self.lost = set(), False
        return why, lost

    def _count(self, counted: Counters, known_s: float | None, unix_s: float, clock_good: bool, now: float) -> bool:
        if known_s is None:
            self.import_wms = max(self.import_wms, WMS * sum(import_wh for import_wh, _ in counted.values()))
            self.export_wms = max(self.export_wms, WMS * sum(export_wh for _, export_wh in counted.values()))
            self.counters, self._heard_s = dict(counted), now
            return True
        gone_s = max(0.0, unix_s - known_s) if clock_good else LOST_S
        past_s = gone_s if self._heard_s is None else now - self._heard_s
        steady = self._steady(self.counters, counted, past_s)
        if not all(steady.values()):
            self.why.add("counter")
            odd = self._odd
            goes_on = odd is not None and all(self._steady(odd.counters, counted, now - odd.now).values())
            since_s, times = (odd.since_s, odd.times + 1) if odd is not None and goes_on else (now, 1)
            self._odd = Odd(since_s, times, counted, now)
            if now - since_s < CONFIRM_S or times < CONFIRM:
                return False
        whole = all(steady.values()) and counted.keys() == self.counters.keys()
        for name in self.counters.keys() & counted.keys():
            if steady[name]:
                self.import_wms += WMS * (counted[name][0] - self.counters[name][0])
                self.export_wms += WMS * (counted[name][1] - self.counters[name][1])
        if not whole:
            self.why.add("counter")
            self.lost = True
        self.counters, self._heard_s, self._odd = dict(counted), now, None
        return True

    def _steady(self, old: Counters, new: Counters, past_s: float) -> dict[str, bool]:
        """By meter known before: could its counters have gone from the old to the new in this time?"""
        most = int(self.rated_w * 1.2 * past_s / 3600) + STEP_WH
        return {
            name: all(0 <= after - before <= most for before, after in zip(old[name], new[name], strict=True))
            for name in old.keys() & new.keys()
        }
