"""What is behind each [[meter]]: its driver, the line it shares, and what its model makes of the settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

from agent.config import BatteryConfig, MeterConfig
from drivers.catalog import find
from drivers.modbus import Bus, Line
from drivers.plausible import Plausible
from drivers.reading import MeterError, Reading, Role, absent, flipped
from drivers.register_meter import Meter
from drivers.registers import Map, MapError

if TYPE_CHECKING:
    from drivers.battery import Battery

PUSH_S: Final = 10.0  # the slowest meters that talk: P1 before DSMR 5 sends every ten seconds
TALK: Final = ("p1", "sml", "tic")
MODBUS_PORT: Final = 502


class Source(Protocol):
    """A meter that answers when it is asked."""

    def read(self, now: float) -> Reading: ...

    def hertz(self, now: float) -> float | None: ...


@runtime_checkable
class Whole(Protocol):
    """A meter that may be all that there is in its unit."""

    whole: bool


class Reader(Protocol):
    """A meter that talks: one reading for each telegram that these bytes complete."""

    @property
    def damaged(self) -> int: ...

    def feed(self, data: bytes) -> list[Reading]: ...


@dataclass(slots=True)
class Polled:
    """One that is asked. `due_s` monotonic."""

    name: str
    meter: Source
    every_s: float
    plausible: Plausible
    unit: int
    kind: str
    due_s: float = 0.0

    def read(self, now: float) -> Reading:
        """One reading; what the meter does not give is absent, with the reason."""
        try:
            reading = self.meter.read(now)
        except MeterError as error:
            reading = absent(str(error))
        return self.plausible.judge(reading, now)


@dataclass(slots=True)
class Told:
    """One that talks."""

    name: str
    line: Line
    reader: Reader
    flip: bool
    plausible: Plausible

    def feed(self, data: bytes, now: float) -> list[Reading]:
        return [self.plausible.judge(flipped(one) if self.flip else one, now) for one in self.reader.feed(data)]


@dataclass(slots=True)
class Counted:
    """One that gives pulses to a pin."""

    name: str
    pin: int
    imp_per_kwh: int
    rated_w: int | None
    flip: bool
    every_s: float
    plausible: Plausible

    def judged(self, reading: Reading, now: float) -> Reading:
        return self.plausible.judge(flipped(reading) if self.flip else reading, now)


@dataclass(slots=True)
class Meters:
    """All meters of a node: those asked, by the line they share, those that talk, those that pulse."""

    lines: dict[Line, tuple[Bus, list[Polled]]] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    battery: "tuple[Line, Battery] | None" = None  # whose set-points are written
    hertz: tuple[Line, Source] | None = None  # whose frequency is read by itself


def line_of(config: MeterConfig) -> Line:
    """Where this meter answers, with its model's own settings where the configuration says nothing. Raises MapError."""
    if config.host is not None:
        return Line(config.host, config.tcp_port, None)  # one gateway is one line, whatever the baud rate behind it
    map_ = find(config.model)
    return Line(None, None, config.port, config.baud or map_.baud, config.framing or map_.framing)


def reader(protocol: str, recorded: bool = False) -> Reader:
    """A new reader of one that talks; of one `recorded` a single telegram is believed.

    Each is imported where it is wanted: an agent has one kind of meter or two.
    """
    match protocol:
        case "p1":
            from drivers.p1 import P1

            return P1()
        case "sml":
            from drivers.sml import Sml

            return Sml(trusting=recorded)
        case _:
            from drivers.tic import Tic

            return Tic()


def period_s(config: MeterConfig) -> float:
    """How often a reading is due. Raises MapError."""
    return max(config.every_s, PUSH_S) if find(config.model).protocol in TALK else config.every_s


def build(configs: Sequence[MeterConfig], battery: BatteryConfig | None = None, hertz_meter: str | None = None) -> Meters:
    """The drivers of the configured meters; nothing is opened yet. Raises MapError with all that is wrong, a line each.

    `battery`: the one that is given set-points, if its control is not none; `hertz_meter`: the name of the one whose
    frequency is read by itself.
    """
    meters = Meters()
    problems: list[str] = []
    for config in configs:
        try:
            _add(meters, config, find(config.model))
            if config.name == hertz_meter:
                _listen_to(meters, config, find(config.model))
            if battery is not None and config.name == battery.meter and battery.control != "none":
                _steer(meters, config, find(config.model), battery)
        except MapError as error:
            problems += [f"meter {config.name!r}: {line}" for line in str(error).splitlines()]
    if problems:
        raise MapError("\n".join(problems))
    return meters


def _listen_to(meters: Meters, config: MeterConfig, map_: Map) -> None:
    if map_.protocol not in ("modbus", "sunspec") or (map_.protocol == "modbus" and "hz" not in map_.regs):
        raise MapError(f"a {map_.id} tells no frequency when it is asked: name another at meter of [frequency], or leave it out")
    line = line_of(config)
    meters.hertz = line, next(one.meter for one in meters.lines[line][1] if one.name == config.name)


def _steer(meters: Meters, config: MeterConfig, map_: Map, battery: BatteryConfig) -> None:
    if map_.protocol != "sunspec":
        raise MapError(f'a {map_.id} takes no set-points: write control = "none" in [battery], or name the inverter, a sunspec')
    from drivers.battery import Battery
    from drivers.setpoint import Control

    line = line_of(config)
    unit = config.unit if config.unit is not None else map_.unit
    meters.battery = line, Battery(meters.lines[line][0], unit, cast(Control, battery.control), battery.power_w)


def _add(meters: Meters, config: MeterConfig, map_: Map) -> None:
    flip = _turned(config, map_)
    plausible = Plausible(config.rated_w, map_.wrap_wh)
    if map_.protocol == "s0":
        meters.counted.append(_counted(config, flip, plausible))
        return
    if config.pin is not None or config.imp_per_kwh is not None:
        raise MapError(f"pin and imp_per_kwh are of an S0 meter, and {map_.id} is none: remove them")
    if config.host is None and config.port is None:
        raise MapError(f'a {map_.id} is on a serial line or at a host: write port = "/dev/ttyUSB0" or host = "192.168.1.50"')
    line, talks = line_of(config), map_.protocol in TALK
    _check_wire(meters, line, talks)
    if talks:
        if config.unit is not None:
            raise MapError(f"a {map_.id} talks of its own accord and has no unit: remove it")
        if config.host is not None and config.tcp_port == MODBUS_PORT:
            why = f"a {map_.id} gateway does not talk on port {MODBUS_PORT}"
            raise MapError(f"{why}: write its tcp_port, for example tcp_port = 2000")
        meters.told.append(Told(config.name, line, reader(map_.protocol), flip, plausible))
        return
    bus, polled = meters.lines.setdefault(line, (Bus(line), []))
    unit = config.unit if config.unit is not None else map_.unit
    source, kind = _source(bus, map_, unit, flip, config.role)
    for one in polled:
        if (one.unit, one.kind) == (unit, kind):
            way_out = "each needs one of its own: set another at one of them (its manual says how) and write it here"
            raise MapError(f"unit {unit} on {line} is the meter {one.name!r} already; {way_out}")
    polled.append(Polled(config.name, source, config.every_s, plausible, unit, kind))
    for one in polled:
        if isinstance(one.meter, Whole):  # a battery is alone in its unit as long as nobody else reads something of it
            one.meter.whole = sum(other.unit == one.unit for other in polled) == 1


def _check_wire(meters: Meters, line: Line, talks: bool) -> None:
    """One that talks needs a line of its own; those that are asked share one if they are set alike."""
    taken = {told.line.port or told.line for told in meters.told}
    asked = {one.port or one for one in meters.lines}
    if (line.port or line) in (taken | asked if talks else taken):
        raise MapError(f"{line.port or line} is another meter's: one that talks of its own accord needs a line of its own")
    for other in meters.lines:
        if line.port is not None and other.port == line.port and other != line:
            what = f"it would be read on {line}, another meter of the same wire on {other}"
            raise MapError(f"{what}: set all meters of a wire alike, and write that baud and framing at each")


def _source(bus: Bus, map_: Map, unit: int, flip: bool, role: str) -> tuple[Source, str]:
    """The driver, and what it reads of its unit: a SunSpec device can be several meters, as some inverters are."""
    if map_.protocol != "sunspec":
        return Meter(bus, map_, unit, flip), map_.device
    from drivers.sunspec import which_for
    from drivers.sunspec_meter import SunSpecMeter

    which = which_for(cast(Role, role))
    return SunSpecMeter(bus, unit, flip, which), which


def _turned(config: MeterConfig, map_: Map) -> bool:
    """A meter that shows no direction has the one of its role."""
    if map_.directional:
        return config.flip
    if config.role in ("grid", "battery"):
        why = f"a {map_.id} cannot tell taking from giving, so that it cannot measure a {config.role}"
        raise MapError(f"{why}: give it the role load, pv or generator")
    if config.flip:
        raise MapError(f"a {map_.id} has no direction that flip could turn: remove flip, its role {config.role!r} says it")
    return config.role != "load"


def _counted(config: MeterConfig, flip: bool, plausible: Plausible) -> Counted:
    if config.port is not None or config.host is not None:
        raise MapError("an S0 meter is on a pin: write pin = 17 (the BCM number) in the place of port or host")
    if config.pin is None or config.imp_per_kwh is None:
        raise MapError("an S0 meter needs pin = 17 (the BCM number) and imp_per_kwh = 1000 (printed on the meter)")
    return Counted(config.name, config.pin, config.imp_per_kwh, config.rated_w, flip, config.every_s, plausible)
