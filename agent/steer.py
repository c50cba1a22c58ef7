"""The battery's set-point: when it is written, what to make of the answer, and leaving a battery alone that does not obey."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.events import PointSet, SetPoint
from agent.follow import AGAIN_S, Follow, Look
from agent.guards import Reversion
from agent.offer import Battery

TRIES = 2  # a set-point that was not taken is written once more
ANSWER_S = 5.0  # two short timeouts and a scan between: by then it was written, or not


@dataclass(slots=True)
class Steer:
    """One battery that is `written`. Watts are + = discharge, times monotonic."""

    battery: Battery
    meter_s: float = 1.0  # between two readings of it
    reversion: Reversion = field(init=False)
    follow: Follow = field(init=False)
    applied_w: int = 0  # as read back
    asked_s: float | None = None  # one is on its way: the next waits for its answer
    failures: int = 0
    failed_s: float = 0.0
    soc_pct: float | None = None
    _trouble: str = ""  # of the last answer, for people

    def __post_init__(self) -> None:
        battery = self.battery
        self.reversion = Reversion(battery.deadband_w, battery.revert_s)
        self.follow = Follow(battery.power_w, battery.deadband_w, battery.droop, self.meter_s)

    @property
    def listens(self) -> bool:
        """Whether it takes what it is told."""
        return self.failures < TRIES

    @property
    def trusted(self) -> bool:
        """Whether it does what it is told."""
        return self.listens and not self.follow.astray

    @property
    def text(self) -> str:
        """What to tell people, "" while all is well."""
        if self.listens and self.follow.astray:
            again = f"It is left to itself and tried again every {AGAIN_S / 60:.0f} min"
            name, why = self.battery.meter, self.follow.why
            return f"battery {name} does not follow: {why}. {again}. See what its inverter's own settings allow"
        return self._trouble

    def watch(self, seen: Look, now: float) -> None:
        """Its meter beside what it holds, about once a second."""
        self.soc_pct = seen.soc_pct
        self.follow.point(self.applied_w if self.reversion.written_w is not None else None, now)
        self.follow.look(seen, now)

    def step(self, battery_w: int | None, now: float) -> SetPoint | None:
        """What to write now. None for `battery_w`: nobody knows what it can do, so it is left to its own timer."""
        if self.asked_s is not None and now - self.asked_s < ANSWER_S:
            return None
        if not self.listens:
            if now - self.failed_s < self.battery.revert_s:
                return None
            self.failed_s = now  # by now its own timer let go: see whether it listens again
            return self._ask(0, now)
        if self.follow.astray:
            battery_w = self.follow.trial_w(self.soc_pct, now)
        if battery_w is None:
            self.reversion.failed()
            self.applied_w = 0
            return None
        watts = self.reversion.step(battery_w, now)
        return None if watts is None else self._ask(watts, now)

    def _ask(self, watts: int, now: float) -> SetPoint:
        self.asked_s = now
        return SetPoint(self.battery.meter, watts, self.battery.revert_s)

    def answer(self, said: PointSet, now: float) -> str:
        """Take in what became of a set-point; what to tell people as `text`.

        Watts that are in force in spite of a trouble are fewer than were asked for: that is no disobedience.
        """
        self.asked_s = None
        if not said.trouble or said.watts:
            self.failures, self.applied_w = 0, said.watts
            self._trouble = f"battery {said.battery}: {said.trouble}" if said.trouble else ""
            return self.text
        self.failures, self.failed_s, self.applied_w = self.failures + 1, now, 0
        self.reversion.failed()
        again = f"It is left to itself and tried again every {self.battery.revert_s} s"
        self._trouble = "" if self.listens else f"battery {said.battery}: {said.trouble}. {again}"
        return self.text

    def stop(self) -> SetPoint | None:
        """The last word: nothing. Then its own timer lets go."""
        return SetPoint(self.battery.meter, 0, self.battery.revert_s) if self.reversion.written_w else None
