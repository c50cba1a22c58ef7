"""The configuration: one TOML file, read once, checked whole, frozen."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import checks, clashes
from agent.address import TLS_PORT, Address
from agent.keys import OPTIONAL, ROWS, TABLES, Sheet
from agent.switches import Kind
from agent.toml_lines import TomlError, read
from agent.wire import Rates


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists all that is wrong as "file:line: path: what. way out".

    A problem of the file as a whole (it cannot be opened) has neither line nor path. Lists in a path count from 1.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)


TARIFF = {  # field of Rates -> key of [tariff]
    "currency": "currency",
    "import_u": "import",
    "export_u": "export",
    "floor_u": "floor",
    "cap_u": "cap",
    "slot_s": "slot_min",
    "rule": "rule",
}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    id: str
    place: str
    role: str  # consumer, producer or prosumer
    zone: str
    rated_w: int
    deadband_w: int
    address: Address | None  # None: found when joining
    led_pin: int | None = None  # BCM number of a lamp
    time_zone: str | None = None  # None: the system's


@dataclass(frozen=True, slots=True)
class MqttConfig:
    host: str
    port: int
    bind: str
    shared: bool
    tls_port: int = TLS_PORT  # of a closed network, as the next
    read_port: int | None = None  # anonymous reading from outside; None: from this machine only


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    join: tuple[Address, ...]
    closed: bool = False  # without a bundle this node talks to nobody
    create: str | None = None  # the closed network that `grid boot` makes here
    admit: tuple[str, ...] = ()  # for whom it leaves bundles on the boot partition


@dataclass(frozen=True, slots=True)
class StateConfig:
    dir: Path


@dataclass(frozen=True, slots=True)
class SimulateConfig:
    """The household that the sample's simulator shows on a meter; a real run does not look at it."""

    load_w: int
    pv_w: int
    battery_w: int
    battery_wh: int
    seed: int


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """One meter, on a serial `port`, at a TCP `host` or on a `pin`: exactly one of the three is not None."""

    name: str
    model: str  # a model's name, or the absolute path of a map
    role: str  # grid, load, pv, battery or generator
    port: str | None
    host: str | None
    baud: int | None  # None here and in the next two: as the model has it
    framing: str | None
    unit: int | None
    tcp_port: int
    pin: int | None  # BCM number
    imp_per_kwh: int | None
    every_s: float
    flip: bool
    rated_w: int | None
    simulate: SimulateConfig | None


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """One relay, on a `pin` (BCM number)."""

    name: str
    pin: int
    rated_w: int
    each: int  # class, 0 critical ... 3 flexible
    kind: Kind
    active_low: bool
    safe_on: bool
    min_on_s: int | None  # None here and in the next: the kind's own
    min_off_s: int | None
    meter: str | None = None  # its own load meter's name


@dataclass(frozen=True, slots=True)
class BatteryConfig:
    """The node's battery. Nothing is ever written to it with `control` none."""

    meter: str  # name of the meter of role battery: set-points go to its line and unit
    power_w: int
    energy_wh: int
    control: str  # none, sunspec-124 or sunspec-704
    droop: bool  # its inverter's own
    deadband_w: int
    revert_s: int


@dataclass(frozen=True, slots=True)
class FeederConfig:
    """What the zone hangs on: the coupling to an outside grid, or the unit that forms an electrical island."""

    meter: str
    kind: str  # grid or generator
    import_limit_w: int
    export_limit_w: int | None


@dataclass(frozen=True, slots=True)
class FrequencyConfig:
    nominal_hz: int
    meter: str | None  # None: no control by frequency


@dataclass(frozen=True, slots=True)
class Config:
    node: NodeConfig
    mqtt: MqttConfig
    network: NetworkConfig
    tariff: Rates  # export_u <= import_u and floor_u <= cap_u; any may be negative
    stated: frozenset[str]  # the keys of [tariff] that the file itself states
    meters: tuple[MeterConfig, ...]
    loads: tuple[LoadConfig, ...]
    state: StateConfig
    battery: BatteryConfig | None
    feeder: FeederConfig | None
    frequency: FrequencyConfig
    path: Path


def load(path: Path, models: Collection[str] | None = None) -> Config:
    """The configuration in the file `path`; see `parse`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows Notepad starts a file with a byte order mark
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file. Copy Grid's config/grid.toml there and set its id") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a file that this user may read") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        what = f"not UTF-8 (byte 0x{error.object[error.start]:02x})"
        raise ConfigError(f"{path}:{line}: file: {what}. Save it again with the encoding UTF-8") from error
    return parse(text, str(path), models)


def parse(text: str, name: str, models: Collection[str] | None = None) -> Config:
    """The configuration that `text` tells; `name` is its file's, for messages and relative paths.

    `models`: the meter models that exist; None leaves their names unchecked. Whether a map named by its path is there
    and right is for its reader to say. Raises ConfigError with every problem of the text at once.
    """
    try:
        given, lines = read(text)
    except TomlError as error:
        raise ConfigError(f"{name}:{error.line}: file: {error.what}. {error.way_out}") from error
    sheet = Sheet(lines)
    sheet.refuse_unknown((), given, [*TABLES, *ROWS])
    tables = {table: sheet.take_single(table, given) for table in TABLES if table not in OPTIONAL or table in given}
    meters, loads = sheet.take_rows("meter", given), sheet.take_rows("load", given)
    clashes.tariff(sheet, tables["tariff"])
    clashes.joining(sheet, tables)
    clashes.ports(sheet, tables["mqtt"], tables["network"].get("closed", False))
    clashes.meters(sheet, meters, models)
    clashes.loads(sheet, loads)
    checks.balance(sheet, tables, meters, loads)
    clashes.pins(sheet, tables["node"], [*meters, *loads])
    if sheet.problems:
        raise ConfigError(*(f"{name}:{line}: {problem}" for line, problem in sorted(sheet.problems, key=lambda found: found[0])))
    base = Path(name).absolute().parent
    node, tariff = tables["node"], tables["tariff"]
    return Config(
        node=NodeConfig(**node),
        mqtt=MqttConfig(**tables["mqtt"]),
        network=NetworkConfig(**tables["network"]),
        tariff=Rates(**{name: tariff[key] * 60 if name == "slot_s" else tariff[key] for name, key in TARIFF.items()}),
        stated=frozenset(given.get("tariff", ())),
        meters=tuple(_meter(meter.values, base) for meter in meters),
        loads=tuple(_load(load.values) for load in loads),
        state=StateConfig(base / (tables["state"]["dir"] or f"/var/lib/grid/{node['id']}")),
        battery=BatteryConfig(**tables["battery"]) if "battery" in tables else None,
        feeder=FeederConfig(**tables["feeder"]) if "feeder" in tables else None,
        frequency=FrequencyConfig(**tables["frequency"]),
        path=Path(name),
    )


def _meter(values: Mapping[str, Any], base: Path) -> MeterConfig:
    model, simulate = values["model"], values["simulate"]
    own = {"model": str(base / model) if clashes.is_path(model) else model, "simulate": simulate and SimulateConfig(**simulate)}
    return MeterConfig(**{**values, **own})


def _load(values: Mapping[str, Any]) -> LoadConfig:
    own = {"each": values["class"], "safe_on": values["safe"] == "on"}
    return LoadConfig(**own, **{name: value for name, value in values.items() if name not in ("class", "safe")})
