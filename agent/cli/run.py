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


def _whose(error: Exception, state: Path) -> str:
    """What to do where the state directory is another user's, as /var/lib/grid is."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return ""
    place = Path(os.fsdecode(error.filename))
    if not (place.is_relative_to(state) or state.is_relative_to(place)):
        return ""
    return (
        '. Write a directory of this user under [state], as dir = "/home/me/grid", or install the service: sudo deploy/install.sh'
    )


def serve(path: Path | None, own_broker: bool) -> None:
    """Run the node; a valid new configuration ends in a new start of this very process."""
    from agent import loop, root
    from agent.config import ConfigError

    config = load(path)
    root.start_logging()
    try:
        end = root.run(config, own_broker)
    except (OSError, ConfigError) as error:
        fail(f"{error}{_whose(error, config.state.dir)}")
    if end is loop.End.RESTART:
        if config.node.time_zone is not None:
            os.environ.pop("TZ", None)  # what the file says next counts
        os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
