"""Whether a battery does what it holds: its meter beside the set-points in force."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

RAMP_S = 20.0  # so long it may take to get where it was told, besides the time its meter needs
OFF_S = 180.0  # so long it must have done otherwise, in all, since it last did as told
PROOF_S = 10.0  # and so long as told, until it is believed again
PART = 10  # within one part of so many of its power it follows: meters and inverters are no better at small power
LOW_PCT, HIGH_PCT = 20, 90  # below it may keep a reserve of its own, above cells take less
DROOP_HZ = 0.15  # its own droop begins 0.2 Hz from nominal (EN 50549-1); meters read it with some error
AGAIN_S = 600.0  # between trials of one that does not follow
TRIAL_S = 90.0
STEP_S = 5.0  # looks further apart tell nothing of the time between


class Look(NamedTuple):
    """What its meter and the frequency say now; + watts = discharge, None = not known."""

    given_w: int | None
    soc_pct: float | None
    hz: float | None
    nominal_hz: int
    island: bool  # no large grid holds the frequency


@dataclass(slots=True)
class Follow:
    """One battery; times are monotonic."""

    power_w: int
    deadband_w: int
    droop: bool  # its inverter has its own
    meter_s: float = 1.0  # between two readings
    astray: bool = False
    why: str = ""  # for people, while it is astray
    next_s: float = 0.0  # when the next trial begins, or this one began
    _points: list[tuple[float, int]] = field(default_factory=list)  # set-points and since when they are in force, the oldest first
    _off_s: float = 0.0
    _on_s: float = 0.0
    _looked_s: float | None = None

    def point(self, watts: int | None, now: float) -> None:
        """This set-point is in force now; None: none is, it does as it likes."""
        if watts is None:
            self._points.clear()
        elif not self._points or self._points[-1][1] != watts:
            self._points.append((now, watts))
        while len(self._points) > 1 and now - self._points[1][0] > self._wait_s:
            del self._points[0]

    @property
    def _wait_s(self) -> float:
        return RAMP_S + 2 * self.meter_s

    @property
    def near_w(self) -> int:
        """What is near enough."""
        return max(self.power_w // PART, self.deadband_w)

    def look(self, seen: Look, now: float) -> None:
        """Judge. Only what is far from what it would do by itself tells that it follows: at a set-point near 0 both do nothing."""
        past_s = now - self._looked_s if self._looked_s is not None else 0.0
        self._looked_s = now
        if past_s > STEP_S or not self._points or now - self._points[0][0] <= self._wait_s or self._excused(seen):
            return
        asked = [watts for _, watts in self._points]
        given_w = seen.given_w or 0
        if min(asked) - self.near_w <= given_w <= max(asked) + self.near_w:
            if min(map(abs, asked)) > self.near_w:
                self._on_s += past_s
                if self._on_s >= PROOF_S:
                    self._off_s, self.astray, self.why = 0.0, False, ""
            return
        self._on_s, self._off_s = 0.0, self._off_s + past_s
        if self._off_s >= OFF_S and not self.astray:
            self.astray, self.next_s = True, now + AGAIN_S
            self.why = f"it holds {asked[-1]} W, and {given_w} W is what its meter shows"

    def _excused(self, seen: Look) -> bool:
        """Whether there are other reasons for what it does, or nobody can tell."""
        if seen.given_w is None or seen.soc_pct is None:
            return True
        if self.droop and (seen.island if seen.hz is None else abs(seen.hz - seen.nominal_hz) > DROOP_HZ):
            return True
        least, most = min(0, *(watts for _, watts in self._points)), max(0, *(watts for _, watts in self._points))
        less = least - self.near_w <= seen.given_w <= most + self.near_w
        return less and ((most > 0 and seen.soc_pct <= LOW_PCT) or (least < 0 and seen.soc_pct >= HIGH_PCT))

    def trial_w(self, soc_pct: float | None, now: float) -> int | None:
        """What to tell one that is astray, to see whether it follows; None: nothing now."""
        if now >= self.next_s + TRIAL_S:
            self.next_s = now + AGAIN_S
        if soc_pct is None or now < self.next_s:
            return None
        watts = min(self.power_w, 3 * self.near_w)
        return watts if 2 * soc_pct > LOW_PCT + HIGH_PCT else -watts
