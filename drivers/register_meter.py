"""A meter read by registers: what to ask its unit for and when, and the reading that its words make."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.modbus import Bus, Refusal
from drivers.reading import HERTZ, QUANTITIES, MeterError, Reading, flipped, worst
from drivers.registers import Block, Map, MapError, Words, measure, plan, proofs

SLOW_S = 10.0  # volts, hertz and counters change slowly; three meters on a 9600 baud line leave no time for more
SLOW_AGAIN_S = 2.0  # after a failed slow read


class Meter:
    """One unit of a bus, read by its map. `flip` is the installer's word that it is wired the other way round."""

    def __init__(self, bus: Bus, map_: Map, unit: int, flip: bool = False) -> None:
        """Raises MapError when the map has no registers to read."""
        if map_.protocol != "modbus":
            raise MapError(f"{map_.id} speaks {map_.protocol}, which is not read by registers; give the model of a Modbus meter")
        self.bus, self.map, self.unit, self.flip = bus, map_, unit, flip
        self._fast, self._slowly, self._all = plan(map_, "fast"), plan(map_, "slow"), plan(map_, "all")
        self._probes = _probes(map_)
        bus.expect(unit, max(block.count for block in self._all), map_.timeout_s, map_.connect_delay_s)
        self._refused: set[Block] = set()  # optional blocks that this very device does not have
        self._slow_due = float("-inf")
        self._slow = Reading("good", "", {})
        if missing := proofs(map_):
            self._slow = Reading("suspect", f"its {' and '.join(missing)} were never read, so that its map is unproven", {})

    def read(self, now: float) -> Reading:
        """The watts of this very call, with the slow quantities of at most SLOW_S ago or without. Raises MeterError.

        "suspect" while the volts and hertz that prove the map's word order are implausible or were never read.
        """
        fast = self._measure(self._fast, now)
        if now >= self._slow_due:
            self._slow_due = now + SLOW_S
            try:
                self._slow = self._measure(self._slowly, now)
            except MeterError as error:
                self._slow_due = now + SLOW_AGAIN_S
                why = self._slow.why and f"{self._slow.why} ({error})"
                self._slow = Reading(self._slow.quality, why, {})
        return self._finished(_joined(fast, self._slow))

    def read_all(self, now: float) -> Reading:
        """Every register of the map in this very call. Raises MeterError."""
        return self._finished(self._measure(self._all, now))

    def raw(self, now: float) -> dict[str, Words]:
        """The words of every register, undecoded, for who looks for a fault. Raises MeterError."""
        return self._words(self._all, now)

    def hertz(self, now: float) -> float | None:
        """The frequency alone, in one small request; None when the meter says none that can be. Raises MeterError."""
        reg = self.map.regs["hz"]
        hz = measure(self.map, self._words((Block(reg.fc, reg.address, reg.count, (reg,)),), now)).values.get("hz")
        return float(hz) if hz is not None and HERTZ[0] <= hz <= HERTZ[1] else None

    def _measure(self, blocks: Sequence[Block], now: float) -> Reading:
        reading = measure(self.map, self._words(blocks, now))
        if reading.quality != "good" and len(blocks) > 1:  # a load may switch between two requests and spoil a sum: look again
            reading = measure(self.map, self._words(blocks, now))
        return reading

    def _words(self, blocks: Sequence[Block], now: float) -> dict[str, Words]:
        words: dict[str, Words] = {}
        for block in blocks:
            if self._refused and block in self._refused:  # to hash a block costs 10 µs, a whole read 100
                continue
            try:
                self.bus.settle(self.unit, block, self._probes, now)
                answer = self.bus.read_block(self.unit, block, now)
            except MeterError as error:
                if not block.optional:
                    raise
                if isinstance(error, Refusal) and error.code in (1, 2, 3):
                    self._refused.add(block)
                continue
            for reg in block.regs:
                start = reg.address - block.address
                words[reg.name] = answer[start : start + reg.count]
        return words

    def _finished(self, reading: Reading) -> Reading:
        values = {name: reading.values[name] for name in QUANTITIES if name in reading.values}
        reading = Reading(reading.quality, reading.why, values)
        return flipped(reading) if self.flip else reading


def _probes(map_: Map) -> tuple[Block, ...]:
    """Requests of different sizes that every device of this model answers."""
    single = [Block(reg.fc, reg.address, reg.count, (reg,)) for reg in map_.regs.values() if not reg.alone]
    return tuple({(block.fc, block.count): block for block in (*plan(map_, "all"), *single) if not block.optional}.values())


def _joined(fast: Reading, slow: Reading) -> Reading:
    why = "; ".join(part.why for part in (fast, slow) if part.why)
    return Reading(worst((fast.quality, slow.quality)), why, {**slow.values, **fast.values})
