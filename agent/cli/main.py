"""Which commands there are, and the options that they have in common."""

import importlib
from pathlib import Path

import click

COMMANDS = {
    "run": ("node", "run"),
    "check": ("node", "check"),
    "status": ("network", "status"),
    "watch": ("network", "watch"),
    "siblings": ("network", "siblings"),
    "join": ("network", "join"),
    "leave": ("network", "leave"),
    "forget": ("network", "forget"),
    "network": ("membership", "network"),
    "admit": ("admit", "admit"),
    "revoke": ("admit", "revoke"),
    "meter": ("meter", "meter"),
    "load": ("load", "load"),
    "tariff": ("tariff", "tariff"),
    "audit": ("audit", "audit"),
    "doctor": ("doctor", "doctor"),
    "demo": ("demo", "demo"),
    "simulate": ("simulate", "simulate"),
    "upgrade": ("upgrade", "upgrade"),
    "boot": ("boot", "boot"),
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
    help="The node's grid.toml. Without it: $GRID_CONFIG, ./grid.toml, config/grid.toml, /etc/grid/grid.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
