"""Reads the meters, one thread a line, at fixed times; a failed read is an event like any other."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.config import MeterConfig
from agent.events import Event, Metered
from drivers.catalog import find
from drivers.modbus import Bus, Line, Meter
from drivers.reading import MeterError, Reading, absent


@dataclass(slots=True)
class Polled:
    name: str
    meter: Meter
    every_s: float
    due_s: float = 0.0


def line_of(config: MeterConfig) -> Line:
    """Where this meter answers, with its model's own settings where the configuration says nothing. Raises MapError."""
    map_ = find(config.model)
    tcp_port = config.tcp_port if config.host is not None else None
    return Line(config.host, tcp_port, config.port, config.baud or map_.baud, config.framing or map_.framing)


def meters(configs: Sequence[MeterConfig]) -> list[tuple[Bus, list[Polled]]]:
    """The configured meters by the line they share. Raises MapError."""
    lines: dict[Line, tuple[Bus, list[Polled]]] = {}
    for config in configs:
        map_ = find(config.model)
        line = line_of(config)
        bus, polled = lines.setdefault(line, (Bus(line), []))
        unit = config.unit if config.unit is not None else map_.unit
        polled.append(Polled(config.name, Meter(bus, map_, unit, config.flip), config.every_s))
    return list(lines.values())


def read(meter: Meter, now: float) -> Reading:
    """One reading; what the meter does not give is absent, with the reason."""
    try:
        return meter.read(now)
    except MeterError as error:
        return absent(str(error))


class Poll:
    """The threads that read the meters of one node."""

    def __init__(self, configs: Sequence[MeterConfig], put: Callable[[Event], None]) -> None:
        self._configs, self._put = configs, put
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """Raises MapError."""
        for bus, polled in meters(self._configs):
            thread = threading.Thread(target=self._work, args=(bus, polled), name=f"line {bus.line}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(3.0)  # a read blocks for two short timeouts at most

    def _work(self, bus: Bus, polled: list[Polled]) -> None:
        bus.open()
        try:
            while not self._stop.is_set():
                for one in polled:
                    now = time.monotonic()
                    if now >= one.due_s and not self._stop.is_set():
                        # whole multiples of the period: all meters of a node are read at one moment, on whatever lines
                        one.due_s = (now // one.every_s + 1) * one.every_s
                        self._put(Metered(one.name, read(one.meter, now)))
                self._stop.wait(max(0.0, min(one.due_s for one in polled) - time.monotonic()))
        finally:
            bus.close()
