"""Reads the meters, a thread a line, at fixed times or as they talk, and writes a battery's set-points between two readings."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.config import BatteryConfig, MeterConfig
from agent.events import Event, Hertz, Metered, PointSet, Pulsed, SetPoint
from agent.metering import PUSH_S, Counted, Polled, Source, Told, build
from drivers.modbus import Bus
from drivers.reading import MeterError, Reading, absent
from drivers.stream import Stream

if TYPE_CHECKING:
    from drivers.battery import Battery

HERTZ_S = 0.1  # 10 Hz: in simulated islands all survived at this, 83 of 100 at 1 s
HERTZ_AGAIN_S = 0.5  # after a failure
CHECK_S = 0.25  # how soon a set-point that was not yet held is read back again
WAIT_S = 1.0  # how soon a thread that listens notices that it shall end
SILENT_S = 1.5 * PUSH_S
AGAIN_S = 2.0  # after a line that talks broke
KEEP_S = 60.0  # pulses are written to the card once a minute at the most


def look(configs: Sequence[MeterConfig]) -> Iterator[tuple[str, Reading]]:
    """One reading of each meter, straight from it. Raises MapError."""
    meters = build(configs)
    for bus, polled in meters.lines.values():
        bus.open()
        for one in polled:
            yield one.name, one.read(time.monotonic())
        bus.close()
    for told in meters.told:
        yield told.name, _first(told)
    for counted in meters.counted:
        yield counted.name, absent("its pulses are counted by the running agent: start it")


def _first(told: Told) -> Reading:
    """The next telegram of one that talks."""
    stream, ear = Stream(told.line), Ear(told)
    try:
        while True:
            if said := ear.take(stream.read(WAIT_S), time.monotonic()):
                return said[-1]
    except MeterError as error:
        return absent(str(error))
    finally:
        stream.close()


class Ear:
    """Listens to one that talks, and says what is wrong when no telegram comes."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._since_s: float | None = None
        self._heard = self._damaged = 0

    def take(self, data: bytes, now: float) -> list[Reading]:
        """The readings that these bytes complete; an absent one when there was none for SILENT_S."""
        readings = self._told.feed(data, now)
        self._heard += len(data)
        if readings or self._since_s is None:
            self._since_s, self._heard, self._damaged = now, 0, self._told.reader.damaged
        elif now - self._since_s >= SILENT_S:
            readings = [absent(self._why())]
            self._since_s, self._heard, self._damaged = now, 0, self._told.reader.damaged
        return readings

    def _why(self) -> str:
        line, damaged = self._told.line, self._told.reader.damaged - self._damaged
        if damaged:
            return (
                f"{line}: {damaged} telegrams came damaged; is the reading head seated right, the cable short, the framing right?"
            )
        if self._heard:
            return f"{line}: bytes come but no telegram; are baud and framing right, and the model?"
        return f"{line}: nothing comes; is the reading head or cable in place, and the meter's data output switched on?"


class Quick:
    """What a line does between two readings: the newest set-point of its battery, and the frequency by itself.

    Once between two readings, so that on a slow line neither waits for the other for long.
    """

    def __init__(self, put: Callable[[Event], None], battery: "Battery | None", hertz: Source | None) -> None:
        self._put, self._battery, self._hertz = put, battery, hertz
        self._points: queue.SimpleQueue[SetPoint | None] = queue.SimpleQueue()
        self._point = SetPoint("", 0, 0)  # the last one that was begun
        self._hertz_s = float("inf") if hertz is None else float("-inf")
        self._check_s = float("inf")

    def give(self, point: SetPoint | None) -> None:
        """From any thread. None only wakes the line's own."""
        self._points.put(point)

    def wait(self, until_s: float) -> None:
        """Until then, or something of ours is due, or somebody gives us something."""
        wait_s = min(until_s, self._hertz_s, self._check_s) - time.monotonic()
        with suppress(queue.Empty):
            self._take(self._points.get(timeout=wait_s) if wait_s > 0 else self._points.get_nowait())

    def turn(self) -> None:
        """All that is due."""
        while not self._points.empty():
            self._take(self._points.get())
        now = time.monotonic()
        if now >= self._check_s and self._battery is not None:
            self._check_s = float("inf")
            self._said(self._battery.check(now), now)
        now = time.monotonic()
        if now >= self._hertz_s and self._hertz is not None:
            self._ask(self._hertz, now)

    def close(self) -> None:
        if self._battery is not None:
            self._battery.close(time.monotonic())

    def _take(self, point: SetPoint | None) -> None:
        """Only the newest counts."""
        while not self._points.empty():
            point = self._points.get() or point
        if point is not None and self._battery is not None:
            self._point = point
            now = time.monotonic()
            self._said(self._battery.set(point.watts, point.revert_s, now), now)

    def _said(self, trouble: str | None, now: float) -> None:
        if trouble is None:
            self._check_s = now + CHECK_S
        elif self._battery is not None:
            self._check_s = float("inf")
            self._put(PointSet(self._point.battery, self._battery.watts, trouble))

    def _ask(self, hertz: Source, now: float) -> None:
        try:
            hz = hertz.hertz(now)
        except MeterError:
            hz = None  # the reason is that of the meter's readings
        self._hertz_s = now + (HERTZ_AGAIN_S if hz is None else HERTZ_S)
        self._put(Hertz(hz))


class Poll:
    """The threads that read the meters of one node, and the one that writes its battery's set-points."""

    def __init__(
        self,
        configs: Sequence[MeterConfig],
        put: Callable[[Event], None],
        battery: BatteryConfig | None = None,
        hertz_meter: str | None = None,
    ) -> None:
        """`hertz_meter`: the name of the meter whose frequency is read by itself, five times a second and more."""
        self._configs, self._put, self._battery, self._hertz_meter = configs, put, battery, hertz_meter
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._quick: list[Quick] = []
        self._steered: Quick | None = None
        self.pulses: dict[str, int] = {}  # the counts of S0 meters; theirs alone until `close` has returned

    def open(self, pulses: Mapping[str, int]) -> None:
        """`pulses` are the counts of S0 meters kept from before. Raises MapError."""
        meters = build(self._configs, self._battery, self._hertz_meter)
        self.pulses = {counted.name: pulses.get(counted.name, 0) for counted in meters.counted}
        work: list[tuple[str, Callable[[], None]]] = []
        for line, (bus, polled) in meters.lines.items():
            battery = meters.battery[1] if meters.battery is not None and meters.battery[0] == line else None
            hertz = meters.hertz[1] if meters.hertz is not None and meters.hertz[0] == line else None
            quick = Quick(self._put, battery, hertz)
            self._quick.append(quick)
            self._steered = quick if battery is not None else self._steered
            work.append((f"line {bus.line}", lambda bus=bus, polled=polled, quick=quick: self._ask(bus, polled, quick)))  # type: ignore[misc]
        for told in meters.told:
            work.append((f"line {told.line}", lambda told=told: self._listen(told)))  # type: ignore[misc]
        for counted in meters.counted:
            work.append((f"pin {counted.pin}", lambda counted=counted: self._count(counted)))  # type: ignore[misc]
        for name, target in work:
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def set(self, point: SetPoint) -> PointSet | None:
        """From any thread: of several that wait only the newest is written. What becomes of it comes as a `PointSet`."""
        if self._steered is None:
            return PointSet(point.battery, 0, "nothing is ever written to this battery: its control in [battery] is none")
        self._steered.give(point)
        return None

    def close(self) -> None:
        """A battery is let go of first."""
        self._stop.set()
        for quick in self._quick:
            quick.give(None)
        for thread in self._threads:
            thread.join(3.0)  # a read blocks for two short timeouts at most

    def _ask(self, bus: Bus, polled: list[Polled], quick: Quick) -> None:
        bus.open()
        try:
            while not self._stop.is_set():
                for one in polled:
                    quick.turn()
                    now = time.monotonic()
                    if now >= one.due_s and not self._stop.is_set():
                        # whole multiples of the period: all meters of a node are read at one moment, on whatever lines
                        one.due_s = (now // one.every_s + 1) * one.every_s
                        self._put(Metered(one.name, one.read(now)))
                quick.wait(min(one.due_s for one in polled))
            quick.close()
        finally:
            bus.close()

    def _listen(self, told: Told) -> None:
        stream, ear = Stream(told.line), Ear(told)
        while not self._stop.is_set():
            try:
                readings = ear.take(stream.read(WAIT_S), time.monotonic())
            except MeterError as error:
                readings = [absent(str(error))]
                self._stop.wait(AGAIN_S)
            for reading in readings:
                self._put(Metered(told.name, reading))
        stream.close()

    def _count(self, counted: Counted) -> None:
        from drivers.gpio import PinError, PulseInput
        from drivers.pulse import MOST_W, Pulses

        most_w = MOST_W if counted.rated_w is None else counted.rated_w * 6 // 5
        pulses = Pulses(counted.imp_per_kwh, self.pulses[counted.name], most_w)
        times: queue.SimpleQueue[float] = queue.SimpleQueue()
        pin = PulseInput(counted.pin, times.put)
        kept_s = time.monotonic()
        trouble = ""
        while not self._stop.is_set():
            try:
                pin.open()
                trouble = ""
            except PinError as error:
                trouble = str(error)
            now = time.monotonic()
            while not times.empty():
                pulses.pulse(times.get())
            self._put(Metered(counted.name, absent(trouble) if trouble else counted.judged(pulses.reading(now), now)))
            if now - kept_s >= KEEP_S and pulses.count != self.pulses[counted.name]:
                kept_s, self.pulses[counted.name] = now, pulses.count
                self._put(Pulsed(counted.name, pulses.count))
            self._stop.wait((now // counted.every_s + 1) * counted.every_s - now)
        pin.close()
        self.pulses[counted.name] = pulses.count
