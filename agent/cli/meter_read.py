"""grid meter read: the configured meters' readings, or the bare words of their registers."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.main import config_option, json_option
from agent.cli.words import PROBLEM, fail, load, say, say_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config, MeterConfig
    from drivers.reading import Reading
    from drivers.register_meter import Meter
    from drivers.registers import Words
    from drivers.sunspec_meter import SunSpecMeter


def row(name: str, reading: "Reading", age_s: float | None) -> dict[str, Any]:
    """One reading as `grid meter read --json` prints it: every quantity, null for unknown."""
    from drivers.reading import QUANTITIES

    values = {quantity: reading.values.get(quantity) for quantity in QUANTITIES}
    return {"name": name, "quality": reading.quality, "why": reading.why, **values, "age_s": age_s}


def of_agent(config: "Config") -> list[dict[str, Any]] | None:
    """What the running agent, which owns the lines, says of its meters; None when it does not run."""
    import json

    from agent import control

    try:
        said: list[dict[str, Any]] = json.loads(control.ask(config.state.dir, "status"))["meters"]
    except control.Unreachable:
        return None
    return said


def readings(config: "Config", name: str | None) -> list[dict[str, Any]]:
    """From the running agent; else straight from the meters."""
    from agent import poll
    from drivers.reading import absent

    wanted = [meter for meter in config.meters if name in (None, meter.name)]
    said = of_agent(config)
    if said is None:
        looked = poll.look(wanted)
        return [row(name, reading, 0.0 if reading.quality == "good" else None) for name, reading in looked]
    names = {meter.name for meter in wanted}
    blank = row("", absent(""), None)
    return [{**blank, **one} for one in said if one["name"] in names]


def words(config: "MeterConfig") -> dict[str, Any]:
    """Every register of one meter: its place, its words and what they mean; or the reason why there are none."""
    from agent.metering import build
    from drivers.catalog import find
    from drivers.reading import MeterError
    from drivers.register_meter import Meter
    from drivers.sunspec_meter import SunSpecMeter

    registers: list[dict[str, Any]] = []
    why = f"{find(config.model).id} has no registers to show; use grid meter read {config.name}"
    for bus, polled in build([config]).lines.values():
        bus.open()
        try:
            for one in polled:
                if isinstance(one.meter, Meter | SunSpecMeter):
                    registers, why = _registers(one.meter, one.meter.raw(time.monotonic())), ""
        except MeterError as error:
            why = str(error)
        finally:
            bus.close()
    return {"name": config.name, "why": why, "registers": registers}


def _registers(meter: "Meter | SunSpecMeter", raw: "Mapping[str, Words]") -> list[dict[str, Any]]:
    """Of a SunSpec device a row is a model, whole and undecoded."""
    from drivers.reading import DIGITS
    from drivers.register_meter import Meter
    from drivers.registers import decode, rounded

    rows: list[dict[str, Any]] = []
    for name, got in raw.items():
        reg = meter.map.regs[name] if isinstance(meter, Meter) else None
        value = decode(reg, got, meter.map.word_order) if reg is not None and isinstance(meter, Meter) else None
        place = (
            {"fc": 3, "address": None, "type": None} if reg is None else {"fc": reg.fc, "address": reg.address, "type": reg.kind}
        )
        reads = value if value is None else rounded(name, value) if name in DIGITS else float(value)
        rows.append({"register": name, **place, "words": list(got), "reads": reads})
    return rows


def _refuse_owned(config: "Config", name: str | None) -> None:
    """One program at a time may talk on a serial line, and to some devices; most TCP gateways take several."""
    from drivers.catalog import find

    meters = [meter for meter in config.meters if name in (None, meter.name)]
    owned = sorted({meter.port or str(meter.host) for meter in meters if meter.port or find(meter.model).single_client})
    if owned and of_agent(config) is not None:
        way_out = "stop it first (Ctrl-C, or its service), or read without --raw"
        fail(f"the running agent of {config.node.id} owns {', '.join(owned)}; {way_out}")


def _say_row(one: dict[str, Any]) -> None:
    from drivers.reading import QUANTITIES

    known = "  ".join(f"{q} {one[q]}" for q in QUANTITIES if one[q] is not None)
    why = f"({one['why']})" if known and one["why"] else one["why"]
    say("  ".join(part for part in (f"{one['name']}: {one['quality']}", known, why) if part))


def _say_words(one: dict[str, Any]) -> None:
    say(f"{one['name']}: {one['why'] or 'as the meter sends it, before flip'}")
    for reg in one["registers"]:
        sent = " ".join(f"{word:04X}" for word in reg["words"])
        if reg["address"] is None:
            say(f"  {reg['register']}: {sent}")
            continue
        reads = "not available" if reg["reads"] is None else reg["reads"]
        say(f"  {reg['register']:10} fc {reg['fc']}  0x{reg['address']:04X} {reg['address']:>5}  {reg['type']}  {sent:19}  {reads}")


@click.command()
@click.argument("name", required=False)
@config_option
@json_option
@click.option("--raw", is_flag=True, help="The words of every register, straight from the meter.")
@click.option("--repeat", is_flag=True, help="Once a second, until Ctrl-C.")
def read(name: str | None, path: Path | None, as_json: bool, raw: bool, repeat: bool) -> None:
    """Read the configured meters, or the one with this NAME. Exit code 1 when one gives no good reading."""
    from drivers.registers import MapError

    config = load(path)
    names = [meter.name for meter in config.meters]
    if name is not None and name not in names:
        fail(f"no meter {name!r} in {config.path}; there are: {', '.join(names) or 'none'}", 2)
    if not names:
        fail(f"{config.path} has no [[meter]]")
    if raw:
        _refuse_owned(config, name)
    try:
        while True:
            if raw:
                rows = [words(meter) for meter in config.meters if name in (None, meter.name)]
                bad = any(one["why"] for one in rows)
            else:
                rows = readings(config, name)
                bad = any(one["quality"] != "good" for one in rows)
            for one in rows:
                if as_json:
                    say_json(one)
                elif raw:
                    _say_words(one)
                else:
                    _say_row(one)
            if not repeat:
                sys.exit(PROBLEM if bad else 0)
            time.sleep(1.0)
    except KeyboardInterrupt:
        return
    except MapError as error:
        fail(f"{config.path}: {error}")
