"""A SunSpec device on a Modbus bus: its models are looked for once, and every answer proves that it is of the right one."""

from __future__ import annotations

from typing import TypeVar

from drivers.modbus import Bus, Refusal
from drivers.reading import MeterError, Reading, flipped
from drivers.registers import MOST_REGISTERS, Block, Words, Write
from drivers.setpoint import Orders
from drivers.sunspec import Model, Steps, fetch, find, frequency, measure
from drivers.sunspec_models import Which

T = TypeVar("T")
TIMEOUT_S = 1.0  # inverters answer from a busy processor, some through a gateway


class SunSpecMeter:
    """One unit of a bus, read by its SunSpec models. The face of register_meter.Meter; `flip` as there.

    `which` is needed where a device is meter, inverter or battery at once; sunspec.which_for(role) says it.
    +w is what flows in: an inverter that produces, and a battery that discharges, shows negative watts and export_wh.
    """

    def __init__(self, bus: Bus, unit: int, flip: bool = False, which: Which | None = None) -> None:
        self.bus, self.unit, self.flip, self.which = bus, unit, flip, which
        self.whole = False  # this unit is nothing but a battery: its inverter's watts are the battery's
        bus.expect(unit, MOST_REGISTERS, TIMEOUT_S)
        self._models: tuple[Model, ...] = ()
        self._looked: list[tuple[Model, Words]] = []
        self._most = MOST_REGISTERS

    def read(self, now: float) -> Reading:
        """All quantities, of this very call, one request a model. Raises MeterError."""
        reading = measure(self._look(now))
        return flipped(reading) if self.flip else reading

    def read_all(self, now: float) -> Reading:
        """The same as read: a model comes whole. Raises MeterError."""
        return self.read(now)

    def raw(self, now: float) -> dict[str, Words]:
        """The words of each model from its ID register on, undecoded, for who looks for a fault. Raises MeterError."""
        return {f"model {model.id} at {model.at}": words for model, words in self._look(now)}

    def hertz(self, now: float) -> float | None:
        """The frequency alone; None when the device says none that can be. Raises MeterError.

        In one small request: where its model keeps the scale factor is what the last whole read said.
        """
        looked = self._looked or self._look(now)
        for model, words in looked:
            steps = frequency(model, words)
            if steps is not None:
                try:
                    return self._run(steps, now)
                except Refusal:
                    raise
                except MeterError:
                    self._models, self._looked = (), []
                    raise
        return None

    def _look(self, now: float) -> list[tuple[Model, Words]]:
        looked = []
        try:
            models = self._models or self._run(find(self.which, self.whole), now)
            for model in models:
                words, self._most = self._run(fetch(model, self._most), now)
                looked.append((model, words))
        except Refusal:  # busy, or a gateway's complaint: the models are where they were
            raise
        except MeterError:  # another device may answer next
            self._models, self._most, self._looked = (), MOST_REGISTERS, []
            raise
        self._models, self._looked = models, looked
        return looked

    def _run(self, steps: Steps[T], now: float) -> T:
        return run(self.bus, self.unit, steps, now)


def run(bus: Bus, unit: int, steps: Steps[T] | Orders[T], now: float) -> T:
    """Ask for and write what the steps say, and give what comes of them. Raises MeterError."""
    answer: Words | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        except MeterError as error:
            raise MeterError(f"unit {unit} on {bus.line}: {error}") from error
        if isinstance(step, Write):
            bus.write(unit, step, now)
            answer = None
        else:
            answer = _ask(bus, unit, step, now)


def _ask(bus: Bus, unit: int, block: Block, now: float) -> Words | None:
    try:
        bus.settle(unit, block, (), now)  # no size is known that every device answers
        return bus.read_block(unit, block, now)
    except Refusal as error:
        if error.code not in (2, 3):  # no such register, not so many
            raise
        return None
