"""Reads the meters, a thread a line, at fixed times or as they talk; a failed read is an event like any other."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from agent.config import MeterConfig
from agent.events import Event, Metered, Pulsed
from agent.metering import PUSH_S, Counted, Polled, Told, build
from drivers.modbus import Bus
from drivers.reading import MeterError, Reading, absent
from drivers.stream import Stream

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


class Poll:
    """The threads that read the meters of one node."""

    def __init__(self, configs: Sequence[MeterConfig], put: Callable[[Event], None]) -> None:
        self._configs, self._put = configs, put
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.pulses: dict[str, int] = {}  # the counts of S0 meters; theirs alone until `close` has returned

    def open(self, pulses: Mapping[str, int]) -> None:
        """`pulses` are the counts of S0 meters kept from before. Raises MapError."""
        meters = build(self._configs)
        self.pulses = {counted.name: pulses.get(counted.name, 0) for counted in meters.counted}
        work: list[tuple[str, Callable[[], None]]] = []
        for bus, polled in meters.lines.values():
            work.append((f"line {bus.line}", lambda bus=bus, polled=polled: self._ask(bus, polled)))  # type: ignore[misc]
        for told in meters.told:
            work.append((f"line {told.line}", lambda told=told: self._listen(told)))  # type: ignore[misc]
        for counted in meters.counted:
            work.append((f"pin {counted.pin}", lambda counted=counted: self._count(counted)))  # type: ignore[misc]
        for name, target in work:
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(3.0)  # a read blocks for two short timeouts at most

    def _ask(self, bus: Bus, polled: list[Polled]) -> None:
        bus.open()
        try:
            while not self._stop.is_set():
                for one in polled:
                    now = time.monotonic()
                    if now >= one.due_s and not self._stop.is_set():
                        # whole multiples of the period: all meters of a node are read at one moment, on whatever lines
                        one.due_s = (now // one.every_s + 1) * one.every_s
                        self._put(Metered(one.name, one.read(now)))
                self._stop.wait(max(0.0, min(one.due_s for one in polled) - time.monotonic()))
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
