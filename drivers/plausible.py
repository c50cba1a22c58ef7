"""Plausible: a meter's readings beside each other, its watts beside its own counters; what cannot be is suspect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.reading import Number, Reading

MARGIN = 6, 5  # measuring and starting currents above the rating; the same 20 % by which the network counts a node
FROZEN_READS, FROZEN_S = 10, 100.0  # volts and hertz are read every 10 s: ten of them
GAP_S = 30.0  # between two readings: over a longer one the watts cannot be summed up
STEPS = 10  # the counters must have moved so often before they are held against the watts: their last digit may be 0.1 kWh
STILL_WH, STILL_S = 20_000, 3600.0  # so much over so long without a step, and the counters stand still: the coarsest step in 10 kWh
AGREE = 0.5, 2.0  # watt-hours summed up from samples by those counted; loads switch between samples, and VA are not W
NEW_READS, NEW_S = 6, 60.0  # a counter that has fallen is believed after so many readings over so long: a new meter, not a glitch
MOST_W = 1_000_000  # without a rating, a counter that runs faster is a glitch
WH = ("import_wh", "export_wh")
NO_WATTS = "it answers, but without watts; a device at rest may do so, else: is the model right?"


@dataclass(slots=True)
class Counter:
    """One energy counter that never falls, as far as we pass it on. Watt-hours; `seen_s` monotonic."""

    wrap_wh: int | None
    most_w: int
    base: int = 0  # added to what the meter shows: full turns of a register that wraps
    shown: int | None = None  # what we last passed on
    seen_s: float = 0.0
    doubted: int | None = None
    doubted_s: float = 0.0
    doubts: int = 0

    def take(self, raw: int, now: float) -> tuple[int, str]:
        """The value to pass on, and why it is not what the meter shows ("" if it is)."""
        if self.shown is None:
            self.shown, self.seen_s = raw, now
            return raw, ""
        most_wh = 10_000 + self.most_w * (now - self.seen_s) / 3600  # the last digit of some is 10 kWh
        value = self.base + raw
        if self.wrap_wh is not None and value < self.shown and value + self.wrap_wh - self.shown <= most_wh:
            self.base += self.wrap_wh
            value += self.wrap_wh
        if self.shown <= value <= self.shown + most_wh:
            self.shown, self.seen_s, self.doubted, self.doubts = value, now, None, 0
            return value, ""
        return self._doubt(raw, value, now)

    def _doubt(self, raw: int, value: int, now: float) -> tuple[int, str]:
        assert self.shown is not None
        if self.doubted is None or raw < self.doubted:
            self.doubted_s, self.doubts = now, 0
        self.doubted, self.doubts = raw, self.doubts + 1
        if self.doubts >= NEW_READS and now - self.doubted_s >= NEW_S:
            why = f"went from {self.shown} to {raw} for good: taken for a new meter"
            self.base, self.shown, self.seen_s, self.doubted, self.doubts = 0, raw, now, None, 0
            return raw, why
        verb = "fell" if value < self.shown else "jumped"
        return self.shown, f"{verb} from {self.shown} to {raw}: held, because counters only rise"


@dataclass(slots=True)
class Plausible:
    """Watches the readings of one meter, one after another, as flipped as they are passed on.

    `rated_w` is the most that flows through the meter, None if unknown; `wrap_wh` is what its counters hold.
    """

    rated_w: int | None = None
    wrap_wh: int | None = None
    counters: dict[str, Counter] = field(default_factory=dict)
    face: tuple[tuple[str, Number], ...] = ()
    face_s: float = 0.0
    faces: int = 0
    last: tuple[float, int] | None = None  # when and how many watts
    summed_ws: float = 0.0  # watt-seconds since the window began, + import
    turned_ws: float = 0.0  # the same without sign
    began: tuple[int | None, ...] | None = None  # the two counters when the window began
    began_s: float = 0.0
    counted: tuple[int | None, ...] | None = None
    steps: int = 0
    verdict: str = ""

    def judge(self, reading: Reading, now: float) -> Reading:
        """The same reading; "suspect" where it cannot be true, "absent" without watts, its counters held where they fell."""
        if reading.quality == "absent" or "w" not in reading.values:
            self.last = None
            return Reading("absent", NO_WATTS, reading.values) if reading.quality == "good" else reading
        values, why = dict(reading.values), []
        notes = self._hold(values, now)
        why += self._over(int(values["w"]))
        why += self._frozen(values, now)
        if reading.quality == "good" and not why and not notes:
            self._compare(values, now)
        else:
            self._again()
        why += [self.verdict] if self.verdict else []
        said = "; ".join([*([reading.why] if reading.why else []), *why, *notes])
        return Reading("suspect" if why else reading.quality, said, values)

    def _hold(self, values: dict[str, Number], now: float) -> list[str]:
        notes = []
        most_w = self.rated_w * MARGIN[0] // MARGIN[1] if self.rated_w is not None else MOST_W
        for name in WH:
            if name in values:
                counter = self.counters.setdefault(name, Counter(self.wrap_wh, most_w))
                values[name], note = counter.take(int(values[name]), now)
                notes += [f"{name} {note}"] if note else []
        return notes

    def _over(self, w: int) -> list[str]:
        if self.rated_w is None or abs(w) * MARGIN[1] <= self.rated_w * MARGIN[0]:
            return []
        hint = "is rated_w right, and is the model? A register of 16 bits turns over at 32767"
        return [f"w reads {w}, but rated_w is {self.rated_w}; {hint}"]

    def _frozen(self, values: Mapping[str, Number], now: float) -> list[str]:
        """Watts alone may stand still all night; watts, volts and hertz to the last digit do not."""
        face = tuple((name, value) for name, value in values.items() if name in ("w", "hz") or name.startswith("v_"))
        if face != self.face or not any(name == "hz" for name, _ in face) or not any(name.startswith("v_") for name, _ in face):
            self.face, self.face_s, self.faces = face, now, 1
            return []
        self.faces += 1
        if self.faces <= FROZEN_READS or now - self.face_s < FROZEN_S:
            return []
        return [
            f"w, volts and hz have not moved by a digit in {FROZEN_READS} looks: the meter hangs, or a gateway repeats old answers"
        ]

    def _again(self) -> None:
        self.last, self.began, self.counted, self.steps, self.summed_ws, self.turned_ws = None, None, None, 0, 0.0, 0.0

    def _compare(self, values: Mapping[str, Number], now: float) -> None:
        """Sum the watts up until the counters have moved often enough to be held against them."""
        counted = tuple(int(values[name]) if name in values else None for name in WH)
        if counted == (None, None):
            return
        w = int(values["w"])
        if self.last is not None and (
            now - self.last[0] > GAP_S or self.counted is None or _kinds(counted) != _kinds(self.counted)
        ):
            self._again()
        if self.last is not None:
            part_ws = (now - self.last[0]) * (w + self.last[1]) / 2
            if (part_ws < 0 and counted[1] is None) or (part_ws > 0 and counted[0] is None):
                part_ws = 0.0  # this meter does not count it
            self.summed_ws += part_ws
            self.turned_ws += abs(part_ws)
        self.last = (now, w)
        if self.began is None or self.counted is None:
            self.began, self.began_s, self.counted = counted, now, counted
            return
        self.steps += sum(new != old for new, old in zip(counted, self.counted, strict=True))
        self.counted = counted
        turned_wh = self.turned_ws / 3600
        if self.steps < STEPS and (turned_wh < STILL_WH or now - self.began_s < STILL_S):
            return
        taken_wh, given_wh = ((new or 0) - (old or 0) for new, old in zip(counted, self.began, strict=True))
        self.verdict = _verdict(self.summed_ws / 3600, turned_wh, taken_wh - given_wh, still=counted == self.began)
        self._again()


def _kinds(counted: tuple[int | None, ...]) -> list[bool]:
    return [value is None for value in counted]


def _verdict(summed_wh: float, turned_wh: float, counted_wh: int, still: bool) -> str:
    """What the watts summed up say beside the counters: "" where they agree or cancel out too much to tell."""
    said = f"over {turned_wh:.0f} Wh the watts make {summed_wh:+.0f} Wh, the meter's own counters {counted_wh:+d}"
    if still:
        return f"{said}: they stand still; is this the right model, or does the meter hang?"
    if abs(summed_wh) < turned_wh / 2 or not counted_wh:
        return ""  # the direction changed back and forth
    ratio = summed_wh / counted_wh
    if AGREE[0] <= ratio <= AGREE[1]:
        return ""
    if AGREE[0] <= -ratio <= AGREE[1]:
        return f"{said}: the sign of the watts is wrong; is this the right model?"
    for zeros in range(1, 5):
        scale = 10**zeros
        for factor, way in ((ratio / scale, "too large"), (ratio * scale, "too small")):
            if AGREE[0] <= abs(factor) <= AGREE[1]:
                return f"{said}: the watts look {scale} times {way}; is this the right model, is its scale?"
    return f"{said}: one of them is wrong; is this the right model?"
