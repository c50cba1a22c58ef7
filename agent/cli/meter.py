"""grid meter: what to do with meters from the command line; and the models that are known."""

import sys
from typing import Any

import click

from agent.cli.main import json_option
from agent.cli.meter_decode import decode
from agent.cli.meter_read import read
from agent.cli.meter_scan import scan
from agent.cli.meter_simulate import simulate
from agent.cli.table import Column, lines, show, width
from agent.cli.words import say_json


@click.group()
def meter() -> None:
    """Find, read and try meters, list the models."""


MODELS = (
    Column("model"),
    Column("vendor", 3),
    Column("protocol", 2),
    Column("phases", 4, number=True),
    Column("trust", 1),
    Column("sold as"),
)


def _table(wide: int) -> list[list[Any]]:
    """The models, their names of trade cut to what the window leaves."""
    from drivers import catalog

    def rows(most: int) -> list[list[Any]]:
        named = [(m, ", ".join(m.models)) for m in catalog.models().values()]
        cut = {names: names if len(names) <= most else f"{names[: most - 1].rstrip(', ')}…" for _, names in named}
        return [[m.id, m.vendor, m.protocol, m.phases, m.trust, cut[names]] for m, names in named]

    least = wide * 2 // 5  # before the names of trade get less, other columns go
    return rows(least + max(0, wide - max(map(len, lines(MODELS, rows(least), wide)))))


@click.command()
@json_option
def models(as_json: bool) -> None:
    """The meter models that this version knows; look for the name on your meter: grid meter models | grep -i kostal

    Trust: A the vendor's document and another implementation agree, B two implementations agree, C one source only.
    """
    from drivers import catalog

    if as_json:
        shown = ("id", "vendor", "models", "protocol", "phases", "trust")
        say_json([{key: getattr(m, key) for key in shown} for m in catalog.models().values()])
    else:
        show(MODELS, _table(width() if sys.stdout.isatty() else 1_000))


for command in (read, scan, models, decode, simulate):
    meter.add_command(command)
