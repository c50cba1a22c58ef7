"""`grid run` without the command-line library: what stays in memory for years carries nothing that it needs once."""

import os
import sys
from pathlib import Path

from agent.cli.words import fail, load


def plain(arguments: list[str]) -> tuple[Path | None, bool] | None:
    """The configuration's path and --broker, when these are all that is said; None leaves it to the full parser."""
    path: Path | None = None
    own_broker = False
    rest = iter(arguments)
    for argument in rest:
        if argument == "--broker":
            own_broker = True
        elif argument in ("-c", "--config"):
            named = next(rest, None)
            if named is None:
                return None
            path = Path(named)
        else:
            return None
    return path, own_broker


def serve(path: Path | None, own_broker: bool) -> None:
    """Run the node; a valid new configuration ends in a new start of this very process."""
    from agent import loop, root
    from agent.config import ConfigError

    config = load(path)
    root.start_logging()
    try:
        end = root.run(config, own_broker)
    except (OSError, ConfigError) as error:
        fail(str(error))
    if end is loop.End.RESTART:
        if config.node.time_zone is not None:
            os.environ.pop("TZ", None)  # what the file says next counts
        os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
