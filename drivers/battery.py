"""A battery's set-points over SunSpec: written within limits, read back, and let go of whenever the two disagree."""

from __future__ import annotations

from typing import TypeVar

from drivers import setpoint
from drivers.modbus import Bus, Refusal
from drivers.reading import MeterError
from drivers.registers import MOST_REGISTERS
from drivers.setpoint import Control, Held, Orders, Plant, Told
from drivers.sunspec_meter import TIMEOUT_S, run

T = TypeVar("T")
SETTLE_S = 2.0  # how long a device may take to hold what it was told; inverters forward it to another processor
FRESH_S = 15.0  # a look so old still says where the model is; one that was answered badly says nothing


class Battery:
    """The set-points of one unit of a bus: + discharges, - charges (as WSet of model 704 and OutWRte of 124 count).

    For the bus's thread. Only the registers of the chosen control are ever written, and its reversion timer always before
    them: a set-point that is not written again in time lets go by itself, whatever becomes of us.
    """

    def __init__(self, bus: Bus, unit: int, control: Control, power_w: int) -> None:
        """`power_w`: the most that the user allows, both ways; the device's own rating limits it further."""
        self.bus, self.unit, self.control, self.power_w = bus, unit, control, power_w
        bus.expect(unit, MOST_REGISTERS, TIMEOUT_S)
        self.watts = 0  # in force, as it was read back
        self._plant: Plant | None = None
        self._held: Held = {}
        self._held_s = float("-inf")
        self._asked: Told | None = None  # written, and not yet read back
        self._until_s = 0.0
        self._why = ""  # what went wrong with the writing
        self._engaged = False

    @property
    def waits(self) -> bool:
        """A set-point was written and is still to be read back: `check` it in a while."""
        return self._asked is not None

    def set(self, watts: int, revert_s: int, now: float) -> str | None:
        """Let it give these watts for revert_s. "" once they were read back, None: `check` later; other text is what is wrong.

        `watts` are in force then: within the limits of user and device, and in the device's own steps. When something is
        wrong none are, as far as we can help it.
        """
        self._asked, self._why = None, ""
        try:
            plant, held = self._look(now, FRESH_S)
            charge_w, discharge_w = setpoint.limits(plant, held, self.power_w)
            limited = max(-charge_w, min(discharge_w, watts))
            asked, writes = setpoint.order(plant, held, limited, revert_s)
        except MeterError as error:
            return self._lost(str(error))
        self._engaged, self._asked, self._until_s = True, asked, now + SETTLE_S
        self._held_s = float("-inf")
        try:
            for write in writes:
                self.bus.write(self.unit, write, now)
        except Refusal as error:
            return self._let_go(str(error), now)
        except MeterError as error:
            self._why = str(error)  # perhaps it was done all the same: its registers tell
        return self.check(now)

    def check(self, now: float) -> str | None:
        """Read back. The words of `set`."""
        if (asked := self._asked) is None:
            return ""
        try:
            plant, held = self._look(now, 0.0)
            back = setpoint.told(plant, held)
        except MeterError as error:
            return None if now < self._until_s else self._lost(self._why or str(error))
        why = setpoint.disagreement(asked, back, self.power_w)
        if not why:
            self._asked, self.watts = None, back.watts
            return ""
        return None if now < self._until_s else self._let_go(self._why or f"unit {self.unit} on {self.bus.line}: {why}", now)

    def close(self, now: float) -> None:
        """Let go, as well as it can be done; the timer does it otherwise."""
        if self._engaged:
            self._let_go("", now)

    def _look(self, now: float, fresh_s: float) -> tuple[Plant, Held]:
        if self._plant is not None and now - self._held_s < fresh_s:
            return self._plant, self._held
        try:
            plant = self._plant or self._run(setpoint.find(self.control), now)
            held = self._run(setpoint.look(plant), now)
        except Refusal:  # busy, or a gateway's complaint: the models are where they were
            raise
        except MeterError:
            self._plant, self._held_s = None, float("-inf")
            raise
        self._plant, self._held, self._held_s = plant, held, now
        return plant, held

    def _run(self, steps: Orders[T], now: float) -> T:
        return run(self.bus, self.unit, steps, now)

    def _lost(self, why: str) -> str:
        """It cannot be spoken to."""
        self._asked, self.watts = None, 0
        return f"{why}; its own timer ends what is in force" if self._engaged else why

    def _let_go(self, why: str, now: float) -> str:
        self._asked, self.watts = None, 0
        try:
            plant, _ = self._look(now, 0.0)
            self.bus.write(self.unit, setpoint.release(plant), now)
        except MeterError:
            return f"{why}; it could not be let go of: its own timer does that"
        self._engaged, self._held_s = False, float("-inf")
        return f"{why}; it was let go of"
