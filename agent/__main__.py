"""The `grid` command."""

from agent.cli.main import grid


def main() -> None:
    grid(prog_name="grid")


if __name__ == "__main__":
    main()
