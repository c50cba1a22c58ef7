"""Which keys the configuration has, with their defaults and reasons, and the sheet that takes them from a file."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from agent.address import MQTT_PORT, TLS_PORT
from agent.forms import (
    Form,
    Unfit,
    a_currency,
    a_device,
    a_directory,
    a_flag,
    a_host,
    a_time_zone,
    an_address,
    micro,
    one_of,
    seconds,
    slug,
    text_of,
    whole,
)
from agent.price import RULES
from agent.switches import MIN_ON_S
from agent.toml_lines import Where, line_of
from agent.wire import RESERVED

REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file; its `default` (REQUIRED: there is none) stands here and nowhere else, `why` is the reason."""

    table: str
    name: str
    form: Form
    default: object
    why: str
    unit: str = ""
    many: bool = False  # a list of such values


_POWER: Final = 100_000_000  # W, above any feeder of a low-voltage grid
_REACHED: Final = '"host:port" that others can dial: a name, an IPv4 or an [IPv6] address'
_ADDRESS: Final = Form(_REACHED, '"oak-house.local:1883"', an_address)
_MONEY: Final = Form("a number from -1000 to 1000 with at most 6 decimals", "0.30", micro)
_UNIT: Final = whole(0, 255, 1, "a whole number from 1 to 247, over TCP also 0 or 255", but=range(248, 255))
_FLAG: Final = Form("true or false", "true", a_flag)
_BAUD: Final = one_of(300, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, example=9600)
_METER_ROLE: Final = one_of("grid", "load", "pv", "battery", "generator", example="grid")
_CURRENCY: Final = Form("three capital letters as in ISO 4217", '"EUR"', a_currency)
_DIRECTORY: Final = Form("a path", '"/var/lib/grid/my-house"', a_directory)
_TIME_ZONE: Final = Form("a time zone of the IANA data base", '"Europe/Berlin"', a_time_zone)
_DEVICE: Final = Form("a serial device", '"/dev/ttyUSB0"', a_device)

TABLES: Final = ("node", "mqtt", "network", "tariff", "state", "battery", "feeder", "frequency")
OPTIONAL: Final = ("battery", "feeder")  # most nodes have none: without the table, no keys of it are asked for
CONTROLS: Final = ("none", "sunspec-124", "sunspec-704")
FEEDERS: Final = ("grid", "generator")
ROWS: Final = ("meter", "load")  # there may be several: [[meter]]
KEYS: Final = (
    Key("node", "id", slug("my-house", RESERVED), REQUIRED, "all topics of the node carry it; no two nodes may have the same"),
    Key("node", "place", text_of(0, 80, "Oak Lane 7"), "", "for people only"),
    Key("node", "role", one_of("consumer", "producer", "prosumer", example="prosumer"), "prosumer", "it rules nothing out"),
    Key("node", "zone", slug("main"), "main", "siblings hang on the same wires unless somebody says otherwise"),
    Key("node", "rated_w", whole(1, _POWER, 17250), REQUIRED, "the most the house connection carries; 3x25 A is 17250", "W"),
    Key("node", "deadband_w", whole(0, _POWER, 10), 10, "smaller changes of a house are noise and wait for the heartbeat", "W"),
    Key("node", "address", _ADDRESS, None, "found when joining"),
    Key("node", "led_pin", whole(2, 27, 25), None, "a node needs no lamp"),
    Key("node", "time_zone", _TIME_ZONE, None, "the system's; UTC on the image"),
    Key("mqtt", "host", a_host("port", "127.0.0.1"), "127.0.0.1", "the agent has a broker of its own beside it"),
    Key("mqtt", "port", whole(1, 65535, MQTT_PORT), MQTT_PORT, "the registered port of MQTT"),
    Key("mqtt", "bind", a_host("port", "0.0.0.0"), "0.0.0.0", "siblings come from other machines; 127.0.0.1 keeps them out"),
    Key("mqtt", "shared", _FLAG, False, "with a broker each, none can take all nodes down"),
    Key("mqtt", "tls_port", whole(1, 65535, TLS_PORT), TLS_PORT, "the registered port of MQTT with TLS"),
    Key("mqtt", "read_port", whole(1, 65535, 1884), None, "who may read what a house uses is for its people to say"),
    Key("network", "closed", _FLAG, False, "in an open network nothing needs to be made first"),
    Key("network", "join", _ADDRESS, (), "the first node has nobody to join", many=True),
    Key("network", "create", text_of(1, 40, "Mill Lane"), None, "on most nodes: one makes the network, the others get its bundles"),
    Key("network", "admit", slug("oak-house", RESERVED), (), "'grid admit' does the same", many=True),
    Key("tariff", "currency", _CURRENCY, "EUR", "the next two are of Europe"),
    Key("tariff", "import", _MONEY, 300_000, "about what a European household pays", "currency/kWh"),
    Key("tariff", "export", _MONEY, 80_000, "about what a European household gets for solar power", "currency/kWh"),
    Key("tariff", "floor", _MONEY, None, "as export: an island pays producers no less than the outside grid", "currency/kWh"),
    Key("tariff", "cap", _MONEY, None, "as import: an island costs consumers no more than the outside grid", "currency/kWh"),
    Key("tariff", "slot_min", one_of(1, 5, 10, 15, 30, 60, example=15), 15, "the settlement period of European markets", "min"),
    Key(
        "tariff",
        "rule",
        one_of(*RULES, example="mmr"),
        "mmr",
        "mid-market rate: the smallest steps, the steadiest under demand response",
    ),
    Key("battery", "meter", slug("battery"), REQUIRED, "its state of charge is read there, and set-points go to the same unit"),
    Key("battery", "power_w", whole(1, _POWER, 3000), REQUIRED, "the most it may give and take", "W"),
    Key("battery", "energy_wh", whole(1, 10 * _POWER, 10_000), REQUIRED, "how long it lasts decides who gives first", "Wh"),
    Key("battery", "control", one_of(*CONTROLS, example="sunspec-704"), "none", "nothing is written that nobody has allowed"),
    Key("battery", "droop", _FLAG, True, "inverters that can form or support a grid have it by standard (EN 50549-1)"),
    Key("battery", "deadband_w", whole(0, _POWER, 50), 50, "a smaller change is not worth a write", "W"),
    Key("battery", "revert_s", whole(10, 3600, 60), 60, "the inverter lets go a minute after its node died", "s"),
    Key("feeder", "meter", slug("street"), REQUIRED, "what the known nodes do not explain is seen there"),
    Key("feeder", "kind", one_of(*FEEDERS, example="grid"), "grid", "most are tied to an outside grid"),
    Key(
        "feeder",
        "import_limit_w",
        whole(1, 10 * _POWER, 30_000),
        REQUIRED,
        "transformer, contract or generator: nobody is to pass it",
        "W",
    ),
    Key("feeder", "export_limit_w", whole(0, 10 * _POWER, 20_000), None, "what comes back is not limited", "W"),
    Key("frequency", "nominal_hz", one_of(50, 60, example=50), 50, "most of the world", "Hz"),
    Key("frequency", "meter", slug("house"), None, "without it nothing is switched by frequency"),
    Key("state", "dir", _DIRECTORY, None, "/var/lib/grid/ID, where services keep their state"),
    Key("meter", "name", slug("house"), REQUIRED, "the topics grid/meter/NAME carry it"),
    Key("meter", "model", text_of(1, 255, "eastron-sdm630"), REQUIRED, "registers differ from model to model"),
    Key("meter", "role", _METER_ROLE, REQUIRED, "what a flow through the meter means"),
    Key("meter", "port", _DEVICE, None, "a meter is on a serial line or at a host"),
    Key("meter", "host", a_host("tcp_port", "192.168.1.50"), None, "a meter is on a serial line or at a host"),
    Key("meter", "baud", _BAUD, None, "the model's own", "bit/s"),
    Key("meter", "framing", one_of("8N1", "8E1", "8O1", "8N2", "7E1", example="8N1"), None, "the model's own"),
    Key("meter", "unit", _UNIT, None, "the model's own, as it leaves the factory"),
    Key("meter", "tcp_port", whole(1, 65535, 502), 502, "the registered port of Modbus TCP"),
    Key("meter", "pin", whole(2, 27, 17), None, "only an S0 meter is on a pin (BCM number)"),
    Key("meter", "imp_per_kwh", whole(1, 100_000, 1000), None, "only an S0 meter gives pulses"),
    Key("meter", "every_s", seconds("0.05", "3600"), 1.0, "most meters renew their registers about once a second", "s"),
    Key("meter", "flip", _FLAG, False, "right when the current transformers point the way the manual says"),
    Key("meter", "rated_w", whole(1, _POWER, 5000), None, "not known", "W"),
    Key("load", "name", slug("heater"), REQUIRED, "the topics grid/load/NAME carry it"),
    Key("load", "meter", slug("pump"), None, "rated_w is taken for what it draws"),
    Key("load", "pin", whole(2, 27, 17), REQUIRED, "the relay's pin (BCM number)"),
    Key("load", "rated_w", whole(1, _POWER, 2000), REQUIRED, "what it draws", "W"),
    Key("load", "class", whole(0, 3, 3), 3, "0 critical to 3 flexible; what somebody wires to a relay is mostly flexible"),
    Key("load", "kind", one_of(*MIN_ON_S, example="resistive"), "resistive", "it sets the two times below"),
    Key("load", "active_low", _FLAG, False, "most drivers switch on at the high level"),
    Key("load", "safe", one_of("on", "off", example="on"), "on", "a house without its agent works as before"),
    Key("load", "min_on_s", whole(0, 86_400, 10), None, "the kind's own", "s"),
    Key("load", "min_off_s", whole(0, 86_400, 10), None, "the kind's own", "s"),
    Key("meter.simulate", "load_w", whole(0, _POWER, 400), 0, "left out, there is none", "W"),
    Key("meter.simulate", "pv_w", whole(0, _POWER, 5000), 0, "left out, there is none", "W"),
    Key("meter.simulate", "battery_w", whole(0, _POWER, 3000), 0, "left out, there is none", "W"),
    Key("meter.simulate", "battery_wh", whole(0, 10 * _POWER, 10000), 0, "left out, there is none", "Wh"),
    Key("meter.simulate", "seed", whole(0, 2**32 - 1, 1), 0, "any will do; the meters of one household have the same"),
)


@dataclass(frozen=True, slots=True)
class Row:
    where: Where
    given: Mapping[str, object]  # as it stands in the file
    values: Mapping[str, Any]  # converted and with defaults; what was refused is left out

    def fit(self, *names: str) -> bool:
        return all(name in self.values for name in names)


class Sheet:
    """Takes tables by KEYS and gathers problems with their lines."""

    def __init__(self, lines: Mapping[Where, int], keys: Collection[Key] = KEYS) -> None:
        self._lines, self._keys = lines, keys
        self.problems: list[tuple[int, str]] = []

    def line(self, where: Where) -> int:
        return line_of(where, self._lines)

    def say(self, where: Where, what: str, way_out: str) -> None:
        self.problems.append((self.line(where), f"{_spelled(where)}: {what}. {way_out}"))

    def refuse_unknown(self, where: Where, given: Iterable[str], known: Collection[str]) -> None:
        for name in given:
            if name in known:
                continue
            homes = [_header(key.table) for key in self._keys if key.name == name]
            near = difflib.get_close_matches(name.casefold()[:40], known, 1)
            likely = "".join(near if where else map(_header, near))
            if near and homes:
                way_out = f"Did you mean {likely}, or does it belong under {' or '.join(homes)}?"
            elif homes:
                way_out = f"It belongs under {' or '.join(homes)}"
            elif near:
                way_out = f"Did you mean {likely}?"
            else:
                way_out = f"There are {', '.join(known if where else map(_header, known))}"
            self.say((*where, name), "unknown", way_out)

    def take_single(self, table: str, file: Mapping[str, Any]) -> dict[str, Any]:
        given = file.get(table, {})
        if isinstance(given, list) and given and isinstance(given[0], dict):
            self.say((table,), "must stand there once", f"Write [{table}] with single brackets")
            return self._take(table, given[0], (table, 0))
        if not isinstance(given, dict):
            self.say((table,), f"must be a table, not {_shown(given)}", f"Write [{table}] on a line of its own, its keys below")
            return {}
        return self._take(table, given, (table,))

    def take_rows(self, table: str, file: Mapping[str, Any]) -> list[Row]:
        """The tables of which there may be several: meter, load."""
        given = file.get(table, [])
        if isinstance(given, dict):
            self.say((table,), "there may be several", f"Write [[{table}]] with double brackets, once for each {table}")
            return [self._take_row(table, given, (table,))]
        rows = []
        for index, one in enumerate(given if isinstance(given, list) else [given]):
            where = (table, index)
            if isinstance(one, dict):
                rows.append(self._take_row(table, one, where))
            else:
                self.say(where, f"must be a table, not {_shown(one)}", f"Write [[{table}]] on a line of its own, its keys below")
        return rows

    def _take_row(self, table: str, given: Mapping[str, Any], where: Where) -> Row:
        return self._take_meter(given, where) if table == "meter" else Row(where, given, self._take(table, given, where))

    def _take_meter(self, given: Mapping[str, Any], where: Where) -> Row:
        values = self._take("meter", {name: value for name, value in given.items() if name != "simulate"}, where)
        simulate, inner = given.get("simulate"), (*where, "simulate")
        if simulate is not None and not isinstance(simulate, dict):
            self.say(inner, f"must be an inline table, not {_shown(simulate)}", "For example simulate = { load_w = 400 }")
            simulate = None
        values["simulate"] = simulate if simulate is None else self._take("meter.simulate", simulate, inner)
        return Row(where, given, values)

    def _take(self, table: str, given: Mapping[str, Any], where: Where) -> dict[str, Any]:
        keys = [key for key in self._keys if key.table == table]
        names = [key.name for key in keys]
        self.refuse_unknown(where, given, [*names, "simulate"] if table == "meter" else names)
        values: dict[str, Any] = {}
        for key in keys:
            here, value = (*where, key.name), given.get(key.name)
            if key.name in given and not key.many:
                values.update((key.name, fit) for fit in self._fit(key, value, here))
            elif isinstance(value, list):
                values[key.name] = tuple(next(self._fit(key, one, (*here, index)), None) for index, one in enumerate(value))
            elif key.name in given:
                self.say(here, f"must be a list, not {_shown(value)}", f"For example {key.name} = [{key.form.example}]")
            elif key.default is REQUIRED:
                way_out = f"Write one under {_header(table)}, for example {key.name} = {key.form.example}"
                self.say(here, f"missing ({key.why})", way_out)
            else:
                values[key.name] = key.default
        return values

    def _fit(self, key: Key, value: object, where: Where) -> Iterator[Any]:
        """The converted value, or nothing where it was refused."""
        try:
            yield key.form.take(value)
        except Unfit as unfit:
            if unfit.way_out:
                way_out = unfit.way_out
            elif key.many:
                way_out = f"Write {unfit.instead or key.form.example} there"
            else:
                way_out = f"Write {key.name} = {unfit.instead}" if unfit.instead else f"For example {key.name} = {key.form.example}"
            unit = f" ({key.unit})" if key.unit else ""
            self.say(where, f"must be {key.form.says}{unit}, not {_shown(value)}", way_out)


def _header(table: str) -> str:
    if table == "meter.simulate":
        return "simulate of a [[meter]]"
    return f"[[{table}]]" if table in (*ROWS, "wifi") else f"[{table}]"


def _spelled(where: Where) -> str:
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch("[A-Za-z0-9_-]{1,40}", part) else repr(part[:40]))
    return text


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value[:40]!r}" + ("…" if len(value) > 40 else "")
        case int() if value.bit_length() > 128:  # CPython refuses to print the longest that TOML can hold (hexadecimal)
            return f"a number of {value.bit_length()} bits"
        case int() | Decimal():
            return str(value) if len(str(value)) <= 40 else f"{str(value)[:40]}…"
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return f"the date or time {value}"
