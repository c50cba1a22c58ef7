"""grid join --bundle: what an operator wrote with 'grid admit' makes this node a member of a closed network."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent import runtime
from agent.cli.membership import guarded, pretty, trust_of
from agent.cli.words import fail, say

if TYPE_CHECKING:
    from agent.config import Config


def take(config: Config, file: Path) -> None:
    """Install a bundle; the running agent sees it by itself and starts anew."""
    from agent import authority, seal
    from agent.bundle import MAX_BYTES
    from agent.clock import Clock

    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    unix_s, good = Clock().read(0.0)
    bundle, new = guarded(config, lambda: authority.install(trust_of(config), data, config.node.id, unix_s, good))
    if not new:
        say(f"{bundle.id} is a member of {bundle.network!r} already, by this bundle")
        return
    say(f"{bundle.id} is now a member of the network {bundle.network!r}")
    say(f"fingerprint {pretty(seal.fingerprint(bundle.ca))}")
    if not good and time.time() > seal.certified_to(bundle.cert, bundle.ca):
        say(
            "by this node's clock, which no time server has set, the bundle has expired: links wait until the clock is right",
            err=True,
        )
    running = (runtime.found(config.state.dir) / runtime.SOCKET).exists()
    say("the agent starts anew with it in a moment" if running else f"start the agent: grid run -c {config.path}")
    if bundle.key is not None and str(file) != "-":
        say(f"{file} holds this node's key: remove it")
