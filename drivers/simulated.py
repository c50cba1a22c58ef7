"""Simulated meters: `python -m drivers.simulated FILE` serves the meters of a JSON file over Modbus TCP."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import msgspec
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.catalog import find
from drivers.curves import HOUR_S, STEP_S, Dial, Household, Quantity, face, random_walk
from drivers.reading import QUANTITIES, Number
from drivers.registers import Map, readable, words_of
from drivers.sunspec import Model, points
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS

_SUNSPEC = Model(203, 0, LAYOUTS[203].length, ("Grid",))  # a three-phase meter
PARENT_S = 1.0  # how soon it notices that who started it is gone


class House(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: int | None = None  # default: the file's
    load_w: int = 2000
    pv_w: int = 0
    battery_w: int = 0
    battery_wh: int = 0


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One meter: driven by `house`, or showing `fixed` values whose watts may walk by up to jitter_w every period_s."""

    host: str
    tcp_port: int
    unit: int
    model: str
    quantity: Quantity = "grid"
    house: House | None = None
    fixed: Mapping[str, int | float] | None = None
    period_s: float = STEP_S
    jitter_w: int = 0


class Scene(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    meters: Sequence[Entry]
    speed: float = 1.0  # simulated seconds in a second
    seed: int = 1
    start: str = "12:00"  # the simulated time of day at which it begins


class SimulatedMeter:
    """The registers of one meter. They change only at steps of wall time that all simulators share."""

    def __init__(self, entry: Entry, scene: Scene, now: float) -> None:
        self.unit, self.map = entry.unit, find(entry.model)
        self._seed, self._hz_seed = f"{scene.seed} {entry.host} {entry.tcp_port} {entry.unit}", scene.seed
        self._period_s = STEP_S if entry.house else entry.period_s
        self._first, self._start_s, self._pace_s = int(now // self._period_s), _seconds(scene.start), self._period_s * scene.speed
        self._fixed = {name: value for name, value in (entry.fixed or {}).items() if name not in ("w", "import_wh", "export_wh")}
        self._house = _household(entry.house, scene.seed) if entry.house else None
        self._quantity = entry.quantity
        counters = Random(f"{self._seed} counters")
        counted = {"import_wh": counters.randrange(10**6, 10**7), "export_wh": counters.randrange(10**6), **(entry.fixed or {})}
        watts = self._house_w if self._house else random_walk(f"{self._seed} walk", int(counted.get("w", 0)), entry.jitter_w)
        # by the wall clock at any speed: a meter counts the watts that it shows, for as long as it shows them
        self._dial = Dial(watts, self._period_s, int(counted["import_wh"]), int(counted["export_wh"]))
        self._shown: dict[int, int] = {}
        self.words(now)  # raises ValueError at the start, not in the field, when a value does not fit its register

    def _simulated_s(self, step: int) -> float:
        return self._start_s + step * self._pace_s

    def _house_w(self, step: int) -> int:
        assert self._house is not None
        return self._house.at(self._simulated_s(step)).meter_w(self._quantity)

    def values(self, now: float) -> Mapping[str, Number]:
        """What it shows at the unix time `now`."""
        step = self.step(now)
        self._dial.advance(step)
        soc_pct = self._house.at(self._simulated_s(step)).soc_pct if self._house else 50.0
        hz = round(50 + Random(f"{self._hz_seed} hz {self._first + step}").uniform(-0.02, 0.02), 2)  # one grid, one frequency
        return {**face(self._dial, self.map.phases, self._seed, step, soc_pct, hz), **self._fixed}

    def words(self, now: float) -> dict[tuple[int, int], int]:
        """(function, address) -> word of every register, at the unix time `now`."""
        values, words = self.values(now), {}
        if self.map.protocol == "sunspec":
            shown = {point.name: values[point.name] for point in points(_SUNSPEC)}
            parts = [common("Grid"), Part(_SUNSPEC.id, shown)]
            return {(3, address): word for address, word in image(parts).items()}
        for name, shown_words in words_of(self.map, values).items():
            reg = self.map.regs[name]
            for i, word in enumerate(shown_words):
                words[reg.fc, reg.address + i] = word
        return words

    def held(self, now: float) -> dict[tuple[int, int], int]:
        """`words`, and zeros in the holes that its map's planner reads along."""
        return {(fc, address): 0 for fc in (3, 4) for address in readable(self.map, fc)} | self.words(now)

    def step(self, now: float) -> int:
        """Steps since the start. The boundaries are whole multiples of the period in unix time, the same in every process."""
        return max(0, int(now // self._period_s) - self._first)

    def device(self) -> SimDevice:
        """What pymodbus serves: the map's registers and the holes that its planner reads along; the rest is refused."""
        none = [SimData(0, values=False, count=16, datatype=DataType.BITS)]
        registers = {fc: _blocks(self.map, fc) for fc in (3, 4)}
        return SimDevice(id=self.unit, simdata=(none, list(none), registers[3], registers[4]), action=self._refresh)

    async def _refresh(
        self, fc: int, start: int, _address: int, _count: int, registers: list[int], written: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        """Called by the server before each answer; nothing is awaited, so that a block is of one moment."""
        if written is not None or fc not in (3, 4):
            return ExcCodes.ILLEGAL_FUNCTION
        now = time.time()
        if self._shown.get(fc) != self.step(now):
            self._shown[fc] = self.step(now)
            for (function, address), word in self.words(now).items():
                if function == fc:
                    registers[address - start] = word
        return None


def _blocks(map_: Map, fc: int) -> list[SimData]:
    blocks = [SimData(address, datatype=DataType.REGISTERS) for address in readable(map_, fc)]
    return blocks or [SimData(0, datatype=DataType.INVALID)]


def _household(house: House, seed: int) -> Household:
    return Household(seed if house.seed is None else house.seed, house.load_w, house.pv_w, house.battery_w, house.battery_wh)


def _seconds(start: str) -> float:
    hour, _, minute = start.partition(":")
    if not (hour.isdigit() and minute.isdigit() and int(hour) < 24 and int(minute) < 60):
        raise ValueError(f"start: {start!r} is no time of day; write it like 12:00")
    return int(hour) * HOUR_S + int(minute) * 60


def load(text: bytes) -> Scene:
    """The checked file. Raises ValueError or msgspec.MsgspecError."""
    scene = msgspec.json.decode(text, type=Scene)
    _seconds(scene.start)
    if not scene.meters:
        raise ValueError("meters: is empty; name at least one")
    seen: set[tuple[str, int, int]] = set()
    for i, entry in enumerate(scene.meters):
        where, place = f"meters[{i}]", (entry.host, entry.tcp_port, entry.unit)
        if (entry.house is None) == (entry.fixed is None):
            raise ValueError(f"{where}: needs either house or fixed")
        if unknown := set(entry.fixed or ()) - set(QUANTITIES):
            raise ValueError(f"{where}.fixed: {sorted(unknown)} are no quantities; choose of {', '.join(QUANTITIES)}")
        if entry.period_s <= 0 or entry.jitter_w < 0 or scene.speed <= 0:
            raise ValueError(f"{where}: period_s and speed must be above 0, jitter_w 0 or more")
        if place in seen:
            raise ValueError(f"{where}: unit {entry.unit} is there twice on {entry.host}:{entry.tcp_port}; give it another unit")
        seen.add(place)
    return scene


async def serve(scene: Scene) -> None:
    """Serve until SIGTERM, SIGINT or the parent's end. Raises OSError when a port cannot be had."""
    stop, parent = asyncio.Event(), os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = time.time()
    devices: dict[tuple[str, int], list[SimDevice]] = {}
    for entry in scene.meters:
        devices.setdefault((entry.host, entry.tcp_port), []).append(SimulatedMeter(entry, scene, now).device())
    servers: list[ModbusTcpServer] = []
    try:
        for address, units in devices.items():
            servers.append(ModbusTcpServer(units, address=address))
            try:
                await servers[-1].serve_forever(background=True)
            except RuntimeError as error:  # pymodbus drops the reason
                where = f"cannot listen on {address[0]}:{address[1]}"
                raise OSError(f"{where}: another program has the port, or the address is not of this machine") from error
        print("ready", flush=True)
        while not stop.is_set() and os.getppid() == parent:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PARENT_S)
    finally:
        for server in servers:
            await server.shutdown()  # type: ignore[no-untyped-call]


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m drivers.simulated FILE", file=sys.stderr)
        return 2
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # its lines repeat what the client is answered
    try:
        asyncio.run(serve(load(Path(arguments[0]).read_bytes())))
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
