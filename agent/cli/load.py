"""grid load: what the node's relays are, and a person's word for one of them."""

import json
import re
from pathlib import Path
from typing import Any

import click

from agent.cli.main import config_option, json_option
from agent.cli.table import Column, show
from agent.cli.words import ask, fail, say, say_json
from agent.cli.words import load as load_config

LOADS = (
    Column("load"),
    Column("is"),
    Column("why", 2),
    Column("mode", 1),
    Column("until", 2),
    Column("waits s", 3, number=True),
    Column("class", 4, number=True),
    Column("rated W", 3, number=True),
)
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """ "90", "90s", "15m", "2h", "1d" in seconds. Raises click.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(s|m|min|h|d)?", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no time; write 90s, 15m, 2h or 1d")
    return float(match[1]) * UNITS[match[2] or "s"]


@click.command()
@click.argument("name", required=False)
@click.argument("state", required=False, type=click.Choice(["on", "off", "auto"]))
@click.option("--for", "for_", metavar="TIME", help="How long it holds: 90s, 15m, 2h, 1d; a week at most. Default 2h.")
@config_option
@json_option
def load(name: str | None, state: str | None, for_: str | None, path: Path | None, as_json: bool) -> None:
    """Show this node's loads, or switch the one with this NAME on or off for a while; auto gives it back.

    It keeps the minimum times of its kind: the answer says how long it waits.
    """
    config = load_config(path)
    if state is None:
        status = ask(config, "status")
        rows = status["loads"]
        if name is not None and name not in rows:
            fail(f"no load {name!r} in {config.path}; there are: {', '.join(rows) or 'none'}", 2)
        shown = {one: row for one, row in rows.items() if name in (None, one)}
        if as_json:
            say_json(shown)
        elif not shown:
            say(f"{config.path} has no [[load]]")
        else:
            say(_balance(status["balance"]))
            show(LOADS, [_row(one, row) for one, row in shown.items()])
        return
    wanted = {"name": name, "manual": state, "for_s": seconds(for_) if for_ is not None else None}
    answer = ask(config, "load", json.dumps(wanted))
    if as_json:
        say_json(answer)
        return
    till = f" until {answer['until']}" if answer["until"] else ""
    waits = f"; it waits {answer['waits_s']} s for its minimum time" if answer["on"] != answer["wanted"] else ""
    say(f"{name} is {'on' if answer['on'] else 'off'}, {answer['mode']}{till}{waits}")


def _balance(said: dict[str, Any]) -> str:
    """Whether the common plan decides, in one line."""
    if not said["plan"]:
        return f"balance: no plan, {said['why']}"
    hangs = "a grid of its own" if said["mode"] == "island" else "tied to the grid"
    return f"balance: by the plan, {hangs} at {', '.join(said['feeder'])}" + (f"; {said['why']}" if said["why"] else "")


def _row(name: str, row: dict[str, Any]) -> list[Any]:
    waits_s = row["waits_s"] if row["on"] != row["wanted"] else 0
    return [name, "on" if row["on"] else "off", row["why"], row["mode"], row["until"] or "", waits_s, row["class"], row["rated_w"]]
