"""grid meter read, models: try a meter from the command line."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from agent.cli.main import config_option, json_option
from agent.cli.table import Column, show
from agent.cli.words import PROBLEM, fail, load, say, say_json
from agent.config import Config
from drivers import catalog
from drivers.reading import QUANTITIES, Reading


@click.group()
def meter() -> None:
    """Read meters, list the models."""


MODELS = (Column("model"), Column("vendor", 1), Column("sold as", 3), Column("phases", 2, number=True), Column("trust", 2))


@meter.command()
@json_option
def models(as_json: bool) -> None:
    """The meter models that this version knows."""
    maps = catalog.models().values()
    if as_json:
        say_json([{"id": m.id, "vendor": m.vendor, "models": list(m.models), "phases": m.phases, "trust": m.trust} for m in maps])
    else:
        show(MODELS, [[m.id, m.vendor, ", ".join(m.models), m.phases, m.trust] for m in maps])


def row(name: str, reading: Reading, age_s: float | None) -> dict[str, Any]:
    """One reading as `grid meter read --json` prints it: every quantity, null for unknown."""
    values = {quantity: reading.values.get(quantity) for quantity in QUANTITIES}
    return {"name": name, "quality": reading.quality, "why": reading.why, **values, "age_s": age_s}


def readings(config: Config, name: str | None) -> list[dict[str, Any]]:
    """From the running agent, which owns the lines; else straight from the meters."""
    import json

    from agent import control, poll
    from drivers.reading import absent

    wanted = [meter for meter in config.meters if name in (None, meter.name)]
    try:
        said = json.loads(control.ask(config.state.dir, "status"))["meters"]
    except control.Unreachable:
        rows = []
        for bus, polled in poll.meters(wanted):
            bus.open()
            rows += [row(one.name, poll.read(one.meter, time.monotonic()), 0.0) for one in polled]
            bus.close()
        return [{**r, "age_s": 0.0 if r["quality"] == "good" else None} for r in rows]
    names = {meter.name for meter in wanted}
    blank = row("", absent(""), None)
    return [{**blank, **one} for one in said if one["name"] in names]


@meter.command()
@click.argument("name", required=False)
@config_option
@json_option
@click.option("--repeat", is_flag=True, help="Once a second, until Ctrl-C.")
def read(name: str | None, path: Path | None, as_json: bool, repeat: bool) -> None:
    """Read the configured meters, or the one with this NAME. Exit code 1 when one gives no good reading."""
    config = load(path)
    names = [meter.name for meter in config.meters]
    if name is not None and name not in names:
        fail(f"no meter {name!r} in {config.path}; there are: {', '.join(names) or 'none'}", 2)
    if not names:
        fail(f"{config.path} has no [[meter]]")
    try:
        while True:
            rows = readings(config, name)
            for one in rows:
                if as_json:
                    say_json(one)
                else:
                    known = "  ".join(f"{q} {one[q]}" for q in QUANTITIES if one[q] is not None)
                    say(f"{one['name']}: {one['quality']}  {known or one['why']}")
            if not repeat:
                sys.exit(PROBLEM if any(one["quality"] != "good" for one in rows) else 0)
            time.sleep(1.0)
    except KeyboardInterrupt:
        return
