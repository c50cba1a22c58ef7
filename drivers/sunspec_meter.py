"""A SunSpec device on a Modbus bus: its models are looked for once, and every answer proves that it is of the right one."""

from __future__ import annotations

from typing import TypeVar

from drivers.modbus import Bus, Refusal
from drivers.reading import MeterError, Reading, flipped
from drivers.registers import MOST_REGISTERS, Block, Words
from drivers.sunspec import Model, Steps, fetch, find, measure
from drivers.sunspec_models import Which

T = TypeVar("T")
TIMEOUT_S = 1.0  # inverters answer from a busy processor, some through a gateway


class SunSpecMeter:
    """One unit of a bus, read by its SunSpec models. The face of modbus.Meter; `flip` as there.

    `which` is needed where a device is meter, inverter or battery at once; sunspec.which_for(role) says it.
    +w is what flows in: an inverter that produces, and a battery that discharges, shows negative watts and export_wh.
    """

    def __init__(self, bus: Bus, unit: int, flip: bool = False, which: Which | None = None) -> None:
        self.bus, self.unit, self.flip, self.which = bus, unit, flip, which
        bus.expect(unit, MOST_REGISTERS, TIMEOUT_S)
        self._models: tuple[Model, ...] = ()
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

    def _look(self, now: float) -> list[tuple[Model, Words]]:
        looked = []
        try:
            models = self._models or self._run(find(self.which), now)
            for model in models:
                words, self._most = self._run(fetch(model, self._most), now)
                looked.append((model, words))
        except Refusal:  # busy, or a gateway's complaint: the models are where they were
            raise
        except MeterError:  # another device may answer next
            self._models, self._most = (), MOST_REGISTERS
            raise
        self._models = models
        return looked

    def _run(self, steps: Steps[T], now: float) -> T:
        answer: Words | None = None
        while True:
            try:
                block = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            except MeterError as error:
                raise MeterError(f"unit {self.unit} on {self.bus.line}: {error}") from error
            answer = self._ask(block, now)

    def _ask(self, block: Block, now: float) -> Words | None:
        try:
            self.bus.settle(self.unit, block, (), now)  # no size is known that every device answers
            return self.bus.read_block(self.unit, block, now)
        except Refusal as error:
            if error.code not in (2, 3):  # no such register, not so many
                raise
            return None
