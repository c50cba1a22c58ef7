"""The wires between real agents: meters and batteries over Modbus TCP, relays by their pins, one frequency for all of them.

Tied, a street takes or gives what is left. On an island a generator does, as far as it can, and the rest moves the frequency:
df/dt = f0 * dP / (2 * H * S), the swing equation.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from drivers.catalog import find
from drivers.faults import Answers, Faulty, Several
from drivers.reading import Number
from drivers.registers import readable, words_of
from drivers.served import Served
from drivers.simulated import Entry, Scene, SimulatedMeter
from drivers.simulated_battery import PretendBattery

MODEL = find("eastron-sdm120")
HOUSE, STREET, CELLAR = 1, 2, 4  # units at the one gateway of a node
STEP_S, SAMPLE_S = 0.02, 0.1
INERTIA_S = 3.0  # H, as in agent/simulate/physics.py
DAMPING_PM = 15  # of the load for one per cent of frequency: motors run slower
GOVERN_S, INTEGRAL_S, VALVE_S = 0.04, 3.0, 0.3  # a governor of 4 %, what brings it back to nominal, its actuator
PINS = '''
"""Pins of gpiozero that write every level they drive into `pins` of the working directory: unix s, BCM number, level or -."""
from time import CLOCK_REALTIME, clock_gettime  # the agent may live under another clock

from gpiozero.pins.mock import MockPin


class Wired(MockPin):
    said = "-"

    def say(self, level):
        if level != self.said:
            self.said = level
            with open("pins", "a") as file:
                file.write(f"{clock_gettime(CLOCK_REALTIME)} {self._number} {level}\\n")

    def _set_state(self, value):
        super()._set_state(value)
        self.say(str(int(value)))

    def _set_function(self, value):
        super()._set_function(value)
        if value == "input":
            self.say("-")
'''


def wire_pins(folder: Path) -> dict[str, str]:
    """What an agent's environment needs so that its relays' pins are wired: a package for gpiozero to find."""
    info = folder / "wired-1.dist-info"
    info.mkdir(parents=True)
    (folder / "wired_pins.py").write_text(PINS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wired\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gpiozero_mock_pin_classes]\nwired = wired_pins:Wired\n")
    path = f"{folder}:{os.environ['PYTHONPATH']}"
    return {"PYTHONPATH": path, "GPIOZERO_PIN_FACTORY": "mock", "GPIOZERO_MOCK_PIN_CLASS": "wired"}


class Turn(NamedTuple):
    """A pin's level changed; None: nobody drives it any more."""

    at: float
    pin: int
    level: bool | None


class Meter:
    """An electronic meter of one phase, whose watts and frequency are those of the moment when it is asked."""

    def __init__(self, unit: int, watts: Callable[[float], float], hz: Callable[[], float]) -> None:
        self._watts, self._hz = watts, hz
        entry = Entry("", 0, unit, MODEL.id, fixed={"w": 0, "import_wh": 1000, "export_wh": 1000})
        self._values: dict[str, Number] = dict(SimulatedMeter(entry, Scene(()), time.time()).values(time.time()))
        self._holes = {(fc, address): 0 for fc in (3, 4) for address in readable(MODEL, fc)}
        self._wh, self._at = [1000.0, 1000.0], time.time()
        self.unit = Faulty(MODEL, unit, self._held, (), 1, 1)

    def _held(self, now: float) -> Mapping[tuple[int, int], int]:
        w = round(self._watts(now))
        self._wh[w < 0] += abs(w) * max(0.0, now - self._at) / 3600
        self._at = now
        shown = {"w": w, "va": abs(w), "a_l1": abs(w) / 230, "v_l1": 230.0, "hz": round(self._hz(), 3)}
        self._values |= shown | {"import_wh": int(self._wh[0]), "export_wh": int(self._wh[1])}
        held = dict(self._holes)
        for name, words in words_of(MODEL, self._values).items():
            reg = MODEL.regs[name]
            held |= {(reg.fc, reg.address + i): word for i, word in enumerate(words)}
        return held


class House:
    """What is behind one node's meter. Relays are wired so that one nobody drives is closed: on."""

    def __init__(self, folder: Path, base_w: int, relays: Mapping[int, int], battery: PretendBattery | None) -> None:
        """`folder` is its agent's working directory, `relays` the watts behind each pin."""
        self.base_w, self.relays, self.battery = base_w, dict(relays), battery
        self.turns: list[Turn] = []  # in order
        self._path, self._read = folder / "pins", 0
        self._lock = threading.Lock()

    def look(self) -> None:
        """Take in what the pins did since the last look."""
        with self._lock:
            if not self._path.exists() or self._path.stat().st_size == self._read:
                return
            with self._path.open() as file:
                file.seek(self._read)
                for line in file.read().splitlines():
                    at, pin, level = line.split()
                    self.turns.append(Turn(float(at), int(pin), None if level == "-" else level == "1"))
                self._read = file.tell()

    def let_go(self) -> None:
        """Its agent was killed: no pin is driven any more."""
        with self._path.open("a") as file:
            file.writelines(f"{time.time()} {pin} -\n" for pin in self.relays)

    def is_on(self, pin: int) -> bool:
        return next((turn.level for turn in reversed(self.turns) if turn.pin == pin), None) is not False

    def load_w(self) -> int:
        return self.base_w + sum(watts for pin, watts in self.relays.items() if self.is_on(pin))

    def shed_w(self, *pins: int) -> int:
        return sum(watts for pin, watts in self.relays.items() if (not pins or pin in pins) and not self.is_on(pin))

    def given_w(self, now: float) -> float:
        return self.battery.watts(now) if self.battery is not None else 0.0


class Moment(NamedTuple):
    at: float
    hz: float
    slack_w: float  # of the street or the generator, + = supplied
    shed_w: int


class Wires:
    """All houses on one line. `with Wires(...) as wires:` ends what was started, also when the test fails."""

    def __init__(self, limit_w: int, island: bool = False) -> None:
        """`limit_w`: what the generator can give; of a street only something to look at."""
        self.limit_w, self.island = limit_w, island
        self.houses: dict[str, House] = {}
        self.at = ""  # the house that the generator stands in
        self.hz, self.slack_w = 50.0, 0.0
        self.moments: list[Moment] = []
        self._integral_w: float | None = None
        self._servers: list[tuple[Served, threading.Thread]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flow, name="wires", daemon=True)

    def house(
        self,
        id_: str,
        folder: Path,
        base_w: int,
        relays: Mapping[int, int],
        battery: PretendBattery | None = None,
        slack: bool = False,
        port: int = 0,
        where: AbstractContextManager[None] | None = None,
    ) -> int:
        """Wire one up; `where`: in whose network its gateway listens. The port."""
        house = self.houses[id_] = House(folder, base_w, relays, battery)
        self.at = id_ if slack else self.at
        units: dict[int, Answers] = {HOUSE: Meter(HOUSE, lambda now: self.net_w(id_, now), lambda: self.hz).unit}
        if slack:
            sign = -1 if self.island else 1  # a generator's meter counts what it takes
            units[STREET] = Meter(STREET, lambda now: sign * self.slack_w, lambda: self.hz).unit
        if battery is not None:
            battery.hz = lambda now: self.hz
            units[CELLAR] = battery
        served = Served(Several(units))
        with where or nullcontext():
            port = served.on_tcp("127.0.0.1", port)
        house.look()
        thread = threading.Thread(target=served.run, name=f"gateway {id_}", daemon=True)
        self._servers.append((served, thread))
        thread.start()
        return port

    def net_w(self, id_: str, now: float) -> float:
        """What its own meter reads: + = import."""
        house = self.houses[id_]
        made_w = self.slack_w if self.island and id_ == self.at else 0.0
        return house.load_w() - house.given_w(now) - made_w

    def wanted_w(self) -> int:
        """Were everything on."""
        return sum(house.base_w + sum(house.relays.values()) for house in self.houses.values())

    def given_w(self) -> float:
        """By all batteries."""
        now = time.time()
        return sum(house.given_w(now) for house in self.houses.values())

    def shed_w(self, *ids: str) -> int:
        return sum(self.houses[id_].shed_w() for id_ in ids or self.houses)

    def turns(self, since: float = 0.0) -> list[tuple[str, Turn]]:
        """What relays did since then, in order; how a relay began and that its agent ended is no operation."""
        found = [(id_, turn) for id_, house in self.houses.items() for turn in _operations(house.turns) if turn.at >= since]
        return sorted(found, key=lambda one: one[1].at)

    # time

    def _flow(self) -> None:
        before = time.time()
        while not self._stop.wait(STEP_S):
            now = time.time()
            for house in list(self.houses.values()):
                house.look()
            while before < now:
                dt = min(STEP_S, now - before)
                self._step(before + dt, dt)
                before += dt
            if not self.moments or now - self.moments[-1].at >= SAMPLE_S:
                self.moments.append(Moment(now, self.hz, self.slack_w, self.shed_w()))

    def _step(self, now: float, dt: float) -> None:
        houses = list(self.houses.values())
        load_w = sum(house.load_w() for house in houses) * (1 + DAMPING_PM / 1000 * (self.hz - 50.0) * 2)
        left_w = load_w - sum(house.given_w(now) for house in houses)
        if not self.island:
            self.slack_w = left_w
            return
        if self._integral_w is None:
            self._integral_w = self.slack_w = min(left_w, self.limit_w)  # it has run for long
        gain_w = self.limit_w / (GOVERN_S * 50.0)  # a Hz
        self._integral_w += gain_w * (50.0 - self.hz) * dt / INTEGRAL_S
        self._integral_w = min(float(self.limit_w), max(0.0, self._integral_w))
        asked_w = min(float(self.limit_w), max(0.0, self._integral_w + gain_w * (50.0 - self.hz)))
        self.slack_w += (asked_w - self.slack_w) * dt / VALVE_S
        self.hz += 50.0 * (self.slack_w - left_w) / (2 * INERTIA_S * 1.5 * self.limit_w) * dt

    def run(self) -> None:
        """All houses are wired up: from now on it flows."""
        self._thread.start()

    def __enter__(self) -> "Wires":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for served, thread in self._servers:
            served.stop()
            thread.join()


def _operations(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Those that made or broke a contact."""
    levels: dict[int, bool] = {}
    for turn in turns:
        on = turn.level is not False
        if turn.pin in levels and levels[turn.pin] != on and turn.level is not None:
            yield turn
        levels[turn.pin] = on
