"""The `grid` command."""

import sys


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        from agent.cli import run

        options = run.plain(sys.argv[2:])
        if options is not None:
            run.serve(*options)
            return
    from agent.cli.main import grid

    grid(prog_name="grid")


if __name__ == "__main__":
    main()
