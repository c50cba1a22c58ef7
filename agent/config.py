"""The configuration: one TOML file, read once, checked whole, frozen."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent import checks, price
from agent.address import TLS_PORT, Address
from agent.forms import toml
from agent.keys import OPTIONAL, ROWS, TABLES, Row, Sheet
from agent.switches import MIN_OFF_S, Kind
from agent.toml_lines import TomlError, read


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists all that is wrong as "file:line: path: what. way out".

    A problem of the file as a whole (it cannot be opened) has neither line nor path. Lists in a path count from 1.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)


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
class TariffConfig:
    """Rates in micro-currency per kWh, export_u <= import_u and floor_u <= cap_u; any may be negative."""

    currency: str
    import_u: int
    export_u: int
    floor_u: int
    cap_u: int
    slot_s: int
    rule: str


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
    tariff: TariffConfig
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
    _check_tariff(sheet, tables["tariff"])
    _check_join(sheet, tables)
    _check_ports(sheet, tables["mqtt"], tables["network"].get("closed", False))
    _check_meters(sheet, meters, models)
    _check_loads(sheet, loads)
    checks.balance(sheet, tables, meters, loads)
    _check_pins(sheet, tables["node"], [*meters, *loads])
    if sheet.problems:
        raise ConfigError(*(f"{name}:{line}: {problem}" for line, problem in sorted(sheet.problems, key=lambda found: found[0])))
    base = Path(name).absolute().parent
    node, tariff = tables["node"], tables["tariff"]
    return Config(
        node=NodeConfig(**node),
        mqtt=MqttConfig(**tables["mqtt"]),
        network=NetworkConfig(**tables["network"]),
        tariff=TariffConfig(
            currency=tariff["currency"],
            import_u=tariff["import"],
            export_u=tariff["export"],
            floor_u=tariff["floor"],
            cap_u=tariff["cap"],
            slot_s=tariff["slot_min"] * 60,
            rule=tariff["rule"],
        ),
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
    own = {"model": str(base / model) if _is_path(model) else model, "simulate": simulate and SimulateConfig(**simulate)}
    return MeterConfig(**{**values, **own})


def _load(values: Mapping[str, Any]) -> LoadConfig:
    own = {"each": values["class"], "safe_on": values["safe"] == "on"}
    return LoadConfig(**own, **{name: value for name, value in values.items() if name not in ("class", "safe")})


def _is_path(model: str) -> bool:
    return "/" in model or model.endswith(".toml")


def _check_tariff(sheet: Sheet, tariff: dict[str, Any]) -> None:
    """Also puts in the floor and the cap where they were left out."""
    left_out = tariff.get("floor") is tariff.get("cap") is None
    for name, source in (("floor", "export"), ("cap", "import")):
        if name in tariff and tariff[name] is None:
            tariff[name] = tariff.get(source)
    for low, high, why in (("export", "import", "buying to sell would pay"), ("floor", "cap", "no price lies between them")):
        low_u, high_u = tariff.get(low), tariff.get(high)
        if low_u is not None and high_u is not None and low_u > high_u and not (low == "floor" and left_out):
            what = f"{low} {_decimal(low_u)} is above {high} {_decimal(high_u)}, so that {why}"
            sheet.say(("tariff", low), what, f"Lower {low} or raise {high}")

    if all(name in tariff for name in ("rule", "import", "export")) and tariff["export"] <= tariff["import"]:
        wrong, _, way_out = price.problem(tariff["rule"], tariff["import"], tariff["export"]).partition(". ")
        if wrong:
            sheet.say(("tariff", "rule"), wrong, way_out)


def _decimal(micro: int) -> str:
    return f"{Decimal(micro).scaleb(-6).normalize():f}"


def _check_join(sheet: Sheet, tables: Mapping[str, Mapping[str, Any]]) -> None:
    mqtt, join = tables["mqtt"], tables["network"].get("join", ())
    if mqtt.get("shared") and join:
        sheet.say(("network", "join"), "agents on one shared broker join nobody", "Remove join, or write shared = false")
    _check_create(sheet, tables)
    own = {Address(host, mqtt.get("port", 0)) for host in ("localhost", "127.0.0.1", "::1", mqtt.get("bind", ""))}
    for index, address in enumerate(join):
        if address is None:  # refused already
            continue
        if address in own or address == tables["node"].get("address"):
            sheet.say(("network", "join", index), f"{address} is this node itself", "Name another node, or leave join out")
        elif address in join[:index]:
            sheet.say(("network", "join", index), f"{address} stands there twice", "Remove one")


def _check_create(sheet: Sheet, tables: Mapping[str, Mapping[str, Any]]) -> None:
    network, admit = tables["network"], tables["network"].get("admit", ())
    if network.get("create") is not None:
        if tables["mqtt"].get("shared"):
            sheet.say(("network", "create"), "agents on one shared broker need none", "Remove create, or write shared = false")
    elif admit:
        way_out = "Write create = \"the network's name\" too, or use 'grid admit' on the node that made the network"
        sheet.say(("network", "admit"), "only the node that makes the network admits others", way_out)
    for index, id_ in enumerate(admit):
        if id_ is not None and id_ == tables["node"].get("id"):
            sheet.say(("network", "admit", index), f"{id_} is this node itself", "Name other nodes")
        elif id_ is not None and id_ in admit[:index]:
            sheet.say(("network", "admit", index), f"{id_} stands there twice", "Remove one")


def _check_ports(sheet: Sheet, mqtt: Mapping[str, Any], closed: bool) -> None:
    taken: dict[int, str] = {}
    for name in ("port", "tls_port", "read_port"):
        port = mqtt.get(name)
        if name == "tls_port" and port == TLS_PORT and not closed:
            continue  # not used then, and not written by anybody
        if port is not None and (other := taken.setdefault(port, name)) != name:
            sheet.say(("mqtt", name), f"{other} is {port}, too", "Give each a port of its own")


def _check_meters(sheet: Sheet, meters: Iterable[Row], models: Collection[str] | None) -> None:
    names: dict[str, Row] = {}
    units: dict[tuple[object, object, object], Row] = {}
    settings: dict[tuple[object, str], Row] = {}
    for meter in meters:
        values, where = meter.values, meter.where
        _check_line(sheet, meter)
        if models is not None and meter.fit("model") and not _is_path(values["model"]) and values["model"] not in models:
            near = difflib.get_close_matches(values["model"].casefold(), models, 1)
            way_out = f"Did you mean {toml(near[0])}?" if near else "Run grid meter models, or give a map's path: ./mine.toml"
            sheet.say((*where, "model"), f"there is no model {values['model'][:40]!r}", way_out)
        if meter.fit("name") and (other := names.setdefault(values["name"], meter)) is not meter:
            sheet.say((*where, "name"), f"the meter on line {sheet.line(other.where)} has the same name", "Rename one of them")
        if not meter.fit("port", "host", "tcp_port") or (values["port"] is None) == (values["host"] is None):
            continue
        line = values["port"] or Address(values["host"], values["tcp_port"])
        if meter.fit("unit", "model") and values["model"].casefold() != "sunspec":  # one such device can be several meters
            unit = values["model"] if values["unit"] is None else values["unit"]  # two of a model left the factory with one unit
            if (other := units.setdefault((line, unit, values["model"]), meter)) is not meter:
                what = f"the meter on line {sheet.line(other.where)} has the same line and unit"
                sheet.say((*where, "unit"), what, "Set another unit at one of them (its manual says how) and write it here")
        for name in ("baud", "framing"):
            if values["port"] is None or values.get(name) is None:
                continue
            other = settings.setdefault((line, name), meter)
            if other.values[name] != values[name]:
                what = f"the meter on line {sheet.line(other.where)} is on the same wire with {name} = {toml(other.values[name])}"
                sheet.say((*where, name), what, "Set all meters of a wire alike and write the same here")


def _check_loads(sheet: Sheet, loads: Iterable[Row]) -> None:
    names: dict[str, Row] = {}
    for load in loads:
        if load.fit("name") and (other := names.setdefault(load.values["name"], load)) is not load:
            sheet.say((*load.where, "name"), f"the load on line {sheet.line(other.where)} has the same name", "Rename one of them")
        least_s = load.values.get("min_off_s")
        if load.fit("kind") and load.values["kind"] == "compressor" and least_s is not None and least_s < MIN_OFF_S["compressor"]:
            what = f"a compressor that starts again after {least_s} s breaks"
            sheet.say((*load.where, "min_off_s"), what, f"Write {MIN_OFF_S['compressor']} or more, or leave it out")


def _check_pins(sheet: Sheet, node: Mapping[str, Any], rows: Iterable[Row]) -> None:
    taken = {node["led_pin"]: "the lamp"} if node.get("led_pin") is not None else {}
    for row in rows:
        pin = row.values.get("pin")
        if pin is None:
            continue
        if pin in taken:
            sheet.say((*row.where, "pin"), f"pin {pin} is that of {taken[pin]}", "Give each a pin of its own")
        taken.setdefault(pin, f"the {row.where[0]} on line {sheet.line(row.where)}")


def _check_line(sheet: Sheet, meter: Row) -> None:
    given, where = meter.given, meter.where
    if "pin" in given:
        for name in ("port", "host", "baud", "framing", "unit", "tcp_port"):
            if name in given:
                sheet.say((*where, name), "an S0 meter on a pin has none", f"Remove {name}, or pin")
    elif "port" in given and "host" in given:
        sheet.say((*where, "host"), "a meter has either a port or a host", "Keep port for a serial line, host for Modbus TCP")
    elif "host" in given:
        for name in ("baud", "framing"):
            if name in given:
                sheet.say((*where, name), "only a serial line has it, and this meter is at a host", f"Remove {name}")
    elif "port" in given:
        if "tcp_port" in given:
            sheet.say((*where, "tcp_port"), "only a host has it, and this meter is on a serial line", "Remove tcp_port")
        if meter.values.get("unit") in (0, 255):
            sheet.say((*where, "unit"), "on a serial line a unit is a number from 1 to 247", "Write the one that the meter shows")
    else:
        way_out = 'Write port = "/dev/ttyUSB0" (a serial line), host = "192.168.1.50" (Modbus TCP) or pin = 17 (S0 pulses)'
        sheet.say(where, "neither a port nor a host nor a pin is there", way_out)
