"""grid meter: what to do with meters from the command line; and the models that are known."""

import click

from agent.cli.main import json_option
from agent.cli.meter_decode import decode
from agent.cli.meter_read import read
from agent.cli.meter_scan import scan
from agent.cli.meter_simulate import simulate
from agent.cli.table import Column, show
from agent.cli.words import say_json


@click.group()
def meter() -> None:
    """Find, read and try meters, list the models."""


MODELS = (
    Column("model"),
    Column("vendor", 1),
    Column("sold as", 5),
    Column("protocol", 3),
    Column("phases", 4, number=True),
    Column("trust", 2),
)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """The meter models that this version knows.

    Trust: A the vendor's document and another implementation agree, B two implementations agree, C one source only.
    """
    from drivers import catalog

    maps = catalog.models().values()
    if as_json:
        shown = ("id", "vendor", "models", "protocol", "phases", "trust")
        say_json([{key: getattr(m, key) for key in shown} for m in maps])
    else:
        show(MODELS, [[m.id, m.vendor, ", ".join(m.models), m.protocol, m.phases, m.trust] for m in maps])


for command in (read, scan, models, decode, simulate):
    meter.add_command(command)
