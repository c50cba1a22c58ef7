"""grid run, grid check: one node from its configuration."""

import sys
from pathlib import Path

import click

from agent.cli.main import config_option, json_option
from agent.cli.run import serve
from agent.cli.words import PROBLEM, find, say, say_json
from agent.config import ConfigError


@click.command()
@config_option
@click.option("--broker", "own_broker", is_flag=True, help="Run Mosquitto too, unless this node's broker runs already.")
def run(path: Path | None, own_broker: bool) -> None:
    """Run this node's agent until it is told to stop.

    It needs its broker: 'mosquitto -c STATE/mosquitto.conf', which it writes itself, or --broker. An edited
    configuration is taken while it runs; a broken one is shown as grid/alert/config and changes nothing.
    """
    serve(path, own_broker)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
@json_option
def check(file: Path | None, path: Path | None, as_json: bool) -> None:
    """Check a configuration and say all that is wrong with it, as file:line: path: what. way out."""
    from agent import checks, root

    where = find(file or path)
    try:
        config = root.load(where)
    except ConfigError as error:
        if as_json:
            say_json({"file": str(where), "ok": False, "problems": list(error.problems)})
        else:
            for problem in error.problems:
                say(problem, err=True)
        sys.exit(PROBLEM)
    doubts = checks.doubts(config)
    if as_json:
        say_json({"file": str(where), "ok": True, "problems": [], **({"doubts": doubts} if doubts else {})})
    else:
        for doubt in doubts:
            say(f"{where}: {doubt}", err=True)
        names = ", ".join(meter.name for meter in config.meters) or "none"
        say(f"{where}: fine. Node {config.node.id}, broker {config.mqtt.host}:{config.mqtt.port}, meters: {names}")
