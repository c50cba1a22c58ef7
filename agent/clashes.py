"""What contradicts itself in a configuration: prices that cross, names, ports, pins, lines given twice, keys that forbid others."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from agent import price
from agent.address import TLS_PORT, Address
from agent.forms import toml
from agent.keys import Row, Sheet
from agent.switches import MIN_OFF_S


def is_path(model: str) -> bool:
    """Is this model a map file of somebody's own?"""
    return "/" in model or model.endswith(".toml")


def tariff(sheet: Sheet, tariff: dict[str, Any]) -> None:
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


def joining(sheet: Sheet, tables: Mapping[str, Mapping[str, Any]]) -> None:
    mqtt, join = tables["mqtt"], tables["network"].get("join", ())
    if mqtt.get("shared") and join:
        sheet.say(("network", "join"), "agents on one shared broker join nobody", "Remove join, or write shared = false")
    _create(sheet, tables)
    own = {Address(host, mqtt.get("port", 0)) for host in ("localhost", "127.0.0.1", "::1", mqtt.get("bind", ""))}
    for index, address in enumerate(join):
        if address is None:  # refused already
            continue
        if address in own or address == tables["node"].get("address"):
            sheet.say(("network", "join", index), f"{address} is this node itself", "Name another node, or leave join out")
        elif address in join[:index]:
            sheet.say(("network", "join", index), f"{address} stands there twice", "Remove one")


def _create(sheet: Sheet, tables: Mapping[str, Mapping[str, Any]]) -> None:
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


def ports(sheet: Sheet, mqtt: Mapping[str, Any], closed: bool) -> None:
    taken: dict[int, str] = {}
    for name in ("port", "tls_port", "read_port"):
        port = mqtt.get(name)
        if name == "tls_port" and port == TLS_PORT and not closed:
            continue  # not used then, and not written by anybody
        if port is not None and (other := taken.setdefault(port, name)) != name:
            sheet.say(("mqtt", name), f"{other} is {port}, too", "Give each a port of its own")


def meters(sheet: Sheet, meters: Iterable[Row], models: Collection[str] | None) -> None:
    names: dict[str, Row] = {}
    units: dict[tuple[object, object, object], Row] = {}
    settings: dict[tuple[object, str], Row] = {}
    for meter in meters:
        values, where = meter.values, meter.where
        _line(sheet, meter)
        if models is not None and meter.fit("model") and not is_path(values["model"]) and values["model"] not in models:
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


def loads(sheet: Sheet, loads: Iterable[Row]) -> None:
    names: dict[str, Row] = {}
    for load in loads:
        if load.fit("name") and (other := names.setdefault(load.values["name"], load)) is not load:
            sheet.say((*load.where, "name"), f"the load on line {sheet.line(other.where)} has the same name", "Rename one of them")
        least_s = load.values.get("min_off_s")
        if load.fit("kind") and load.values["kind"] == "compressor" and least_s is not None and least_s < MIN_OFF_S["compressor"]:
            what = f"a compressor that starts again after {least_s} s breaks"
            sheet.say((*load.where, "min_off_s"), what, f"Write {MIN_OFF_S['compressor']} or more, or leave it out")


def pins(sheet: Sheet, node: Mapping[str, Any], rows: Iterable[Row]) -> None:
    taken = {node["led_pin"]: "the lamp"} if node.get("led_pin") is not None else {}
    for row in rows:
        pin = row.values.get("pin")
        if pin is None:
            continue
        if pin in taken:
            sheet.say((*row.where, "pin"), f"pin {pin} is that of {taken[pin]}", "Give each a pin of its own")
        taken.setdefault(pin, f"the {row.where[0]} on line {sheet.line(row.where)}")


def _line(sheet: Sheet, meter: Row) -> None:
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
