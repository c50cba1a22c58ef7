"""Which commands there are, and what they have in common: the configuration, the exit codes, how failures are told."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.config import ConfigError

if TYPE_CHECKING:
    from agent.config import Config

PROBLEM, USAGE, UNREACHABLE = 1, 2, 3
PLACES = (Path("grid.toml"), Path("config/grid.toml"), Path("/etc/grid/grid.toml"))

COMMANDS = {
    "run": ("node", "run"),
    "check": ("node", "check"),
    "status": ("network", "status"),
    "watch": ("network", "watch"),
    "siblings": ("network", "siblings"),
    "join": ("network", "join"),
    "leave": ("network", "leave"),
    "forget": ("network", "forget"),
    "meter": ("meter", "meter"),
    "demo": ("demo", "demo"),
}


class Lazy(click.Group):
    """Loads a command's file when the command is called: `grid run` on a Pi pays for no table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"agent.cli.{module}"), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, 1)
            hint = f"Did you mean 'grid {close[0]}'?" if close else f"There are: {', '.join(COMMANDS)}."
            ctx.fail(f"no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def grid() -> None:
    """Grid: a smart-grid in which no one is in charge. Every node runs one agent beside its own MQTT broker.

    Exit codes: 0 fine, 1 a problem was found, 2 wrong usage, 3 broker or agent unreachable.
    """


config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="GRID_CONFIG",
    help="The node's grid.toml. Without it: $GRID_CONFIG, ./grid.toml, config/grid.toml, /etc/grid/grid.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def fail(text: str, code: int = PROBLEM) -> NoReturn:
    """Say what is wrong and end with this code."""
    say(f"grid: {text}", err=True)
    sys.exit(code)


def say(text: str, err: bool = False) -> None:
    """Print; a terminal that cannot show a character gets its escape instead of a crash."""
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "ascii"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        # the reader (head, grep -q) has had enough; keep the interpreter's own last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(0)


def say_json(body: Any) -> None:
    say(json.dumps(body, separators=(",", ":"), ensure_ascii=False))


def find(path: Path | None) -> Path:
    if path is not None:
        return path
    for place in PLACES:
        if place.is_file():
            return place
    fail(f"no configuration found ({', '.join(map(str, PLACES))}). Name one with -c FILE", USAGE)


def load(path: Path | None) -> "Config":
    """The checked configuration, or the end with all its problems."""
    from agent import root

    try:
        return root.load(find(path))
    except ConfigError as error:
        for problem in error.problems:
            say(problem, err=True)
        sys.exit(PROBLEM)


def ask(config: "Config", do: str, argument: str | None = None) -> dict[str, Any]:
    """The running agent's answer, or the end with what is wrong."""
    from agent import control

    try:
        answer: dict[str, Any] = json.loads(control.ask(config.state.dir, do, argument))
    except control.Unreachable as error:
        fail(f"the agent of {config.node.id} does not answer ({error}). Start it: grid run -c {config.path}", UNREACHABLE)
    if "error" in answer:
        fail(answer["error"])
    return answer
