"""grid boot: what the image does at each start, before the network: the boot partition's files become the node's settings."""

import os
import sys
from pathlib import Path

import click

from agent import versions
from agent.cli.words import fail, say
from agent.versions import VersionError

_folder = click.Path(path_type=Path, file_okay=False)


@click.command(hidden=True)
@click.option("--boot", "partition", type=_folder, default=Path("/boot/firmware"), help="Where the boot partition is.")
@click.option("--data", type=_folder, default=Path("/data"), help="Where the writable partition is.")
@click.option("--run", type=_folder, default=Path("/run/grid-boot"), help="What lasts until the next boot.")
@click.option("--root", "base", type=_folder, default=Path("/"), help="The system that is set up.")
@click.option("--mount", default="mount", hidden=True)
@click.option("--wifi", is_flag=True, help="Minutes later: write there, too, why this node is in no Wi-Fi network.")
def boot(partition: Path, data: Path, run: Path, base: Path, mount: str, wifi: bool) -> None:
    """Take the settings from the boot partition; the image does this before its network and broker start.

    Whatever is wrong with them is written there, in grid-status.txt, and is no reason to stop: the last good ones go on.
    """
    os.umask(0o022)  # the agent must be able to read its settings
    if not wifi:
        _settle(base / versions.PLACE.relative_to("/"))
    from agent import boot as booting
    from agent import radio
    from agent.boot_parts import Places

    places = Places(partition.absolute(), data.absolute(), run.absolute(), base.absolute(), mount)
    try:
        lines = radio.report(places) if wifi else booting.boot(places).lines
    except OSError as error:
        fail(f"{booting.STATUS} cannot be written: {error}" if wifi else f"the settings cannot be put in force: {error}")
    for line in lines:
        say(line)


def _settle(place: Path) -> None:
    """After an upgrade that was cut short this goes on as the version before."""
    try:
        went_back = versions.settle(place)
    except (VersionError, OSError) as error:
        say(f"grid boot: {error}", err=True)
    else:
        if went_back:
            say(f"grid boot: an upgrade was cut short; {went_back.name} goes on", err=True)
            program = str(place / versions.CURRENT / "bin/grid")
            os.execv(program, [program, *sys.argv[1:]])
