"""What all commands have in common: where the configuration is, how failures are told, the exit codes."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.config import ConfigError

if TYPE_CHECKING:
    from agent.config import Config

PROBLEM, USAGE, UNREACHABLE = 1, 2, 3
PLACES = (Path("grid.toml"), Path("config/grid.toml"), Path("/etc/grid/grid.toml"))


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
    import json

    say(json.dumps(body, separators=(",", ":"), ensure_ascii=False))


def find(path: Path | None) -> Path:
    named = path or os.environ.get("GRID_CONFIG")
    if named:
        return Path(named)
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
    import json

    from agent import control

    try:
        answer: dict[str, Any] = json.loads(control.ask(config.state.dir, do, argument))
    except control.Unreachable as error:
        fail(f"the agent of {config.node.id} does not answer ({error}). Start it: grid run -c {config.path}", UNREACHABLE)
    if "error" in answer:
        fail(answer["error"])
    return answer
