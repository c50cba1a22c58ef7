"""S0 pulses: a meter's pulse output, from the moments of its pulses to readings."""

from __future__ import annotations

from drivers.reading import Reading, absent
from drivers.registers import rounded

DEAD_S = 0.03  # a pulse lasts 30 ms at least (EN 62053-31): what comes sooner after one is its contact bouncing
SHORTEST_S = 0.06  # 30 ms on and 30 ms off (EN 62053-31): pulses closer than this are noise
MOST_W = 70_000  # above the 69 kW of a 100 A three-phase connection
STILL_W = 5  # too little to wait for: its next pulse would be 12 minutes away at 1000 imp/kWh
OVERDUE = 2  # gaps: a pulse missing for longer says that the power has changed, but not to what
_PULSE_WS = 3_600_000  # watt-seconds of a kilowatt-hour


class Pulses:
    """Counts the pulses of one output and tells the mean power between them.

    `imp_per_kwh` is printed on the meter, `counted` is the count kept from before, `most_w` more than can ever flow. An S0 output
    has no direction: all is import (reading.flipped turns a generation meter). `now` is monotonic seconds.
    """

    def __init__(self, imp_per_kwh: int, counted: int = 0, most_w: int = MOST_W) -> None:
        if imp_per_kwh < 1 or counted < 0:
            raise ValueError(f"imp_per_kwh = {imp_per_kwh} must be 1 or more, and the count {counted} 0 or more")
        self.imp_per_kwh, self.most_w = imp_per_kwh, most_w
        self.count = counted  # what to keep over a restart
        self._kept = counted > 0
        self._quiet_from: float | None = None  # the last pulse; the first look when there was none since the start
        self._pulsed = False
        self._gap_s: float | None = None

    def pulse(self, now: float) -> None:
        """A pulse began at `now`; ignored within DEAD_S of the one before."""
        if self._pulsed and self._quiet_from is not None:
            gap_s = now - self._quiet_from
            if gap_s < DEAD_S:
                return
            self._gap_s = gap_s
        self._quiet_from, self._pulsed = now, True
        self.count += 1

    def reading(self, now: float) -> Reading:
        """What is known at `now`: w is 3.6e6 / (imp_per_kwh * max(last gap, time since the last pulse)).

        good: the last gap's power, or the limit that falls while the next pulse is up to OVERDUE gaps out, or 0 when that limit
        is below STILL_W. late: the pulse is out for longer, so that w is only the most that flows. suspect: pulses come faster
        than the meter can send them. absent: fewer than two pulses. A torn wire reads as 0 W in the end: S0 cannot tell it.
        """
        counters = {"import_wh": self.count * 1000 // self.imp_per_kwh}
        if self._quiet_from is None:
            if self._kept:
                self._quiet_from = now
            example_s = _PULSE_WS / self.imp_per_kwh / 100
            why = f"no pulse yet: at 100 W and {self.imp_per_kwh} imp/kWh one comes in {example_s:.0f} s"
            return Reading("absent", why, counters) if self._kept else absent(why)
        quiet_s = now - self._quiet_from
        if self._limit_w(max(quiet_s, SHORTEST_S)) < STILL_W:
            return Reading("good", "", {"w": 0, **counters})
        if self._gap_s is None:
            return Reading("absent", "power needs two pulses since the start", counters)
        limit_w = self._limit_w(max(self._gap_s, quiet_s))
        values = {"w": rounded("w", limit_w), **counters}
        if self._gap_s < SHORTEST_S or self._limit_w(self._gap_s) > self.most_w:
            why = f"a pulse came {self._gap_s * 1000:.0f} ms after the one before, faster than power can make them; "
            return Reading("suspect", why + "check the wiring for noise, and imp_per_kwh", values)
        if quiet_s > OVERDUE * self._gap_s:
            return Reading("late", f"no pulse for {quiet_s:.0f} s: at most {values['w']} W flow", values)
        return Reading("good", "", values)

    def _limit_w(self, span_s: float) -> float:
        """The mean power that makes one pulse in that time."""
        return _PULSE_WS / (self.imp_per_kwh * span_s)
