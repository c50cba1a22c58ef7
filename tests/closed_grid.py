"""Four real nodes of a closed network in a ring, and who comes to their brokers: agents, members, foes."""

import json
import re
import ssl
import time
from pathlib import Path

from foes import Foe, publish
from live import Grid, Node, admit
from tap import Tap

WATTS = {"a": -500, "b": 1200, "c": -70, "d": 300}
NET_W = sum(WATTS.values())


def ring(folder: Path) -> Grid:
    """The nodes, agreed. To be closed."""
    grid = Grid(folder)
    try:
        nodes = grid.network(closed=True, **WATTS)
        nodes[3].join(nodes[0])
        grid.agree(nodes, NET_W, 4)
    except BaseException:
        grid.close()
        raise
    return grid


def a_member(grid: Grid) -> Path:
    """The trust directory of a member that is no sibling of anybody: it came by a valid certificate."""
    place = grid.folder / "z" / "trust"
    admit(grid.nodes["a"], place, "z")
    return place


def secrets(node: Node) -> dict[str, str]:
    kept: dict[str, str] = json.loads((node.trust / "broker.json").read_bytes())
    return kept


def agent_tap(node: Node, *filters: str) -> Tap:
    """As the agent itself, which may see and write everything: what a hostile broker at the end of our own bridge can do."""
    return Tap(node.port, *filters, user="_agent", password=secrets(node)["password"])


def everybody(grid: Grid) -> list[Node]:
    return list(grid.nodes.values())


def context(trust: Path, server: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(trust / "ca.pem")
    made.load_cert_chain(trust / "node.pem", trust / "node.key")
    return made


def wrong_records(topic: str, held: bytes, count: int) -> list[bytes]:
    """Newer and newer, with the old signature."""
    return [publish(topic, re.sub(rb'"version":\d+', b'"version":%d' % (10**6 + n), held), retain=True) for n in range(count)]


def takes(node: Node, id_: str, trust: Path, payload: bytes) -> bool:
    """Does this node's broker let that member write into its inbox?"""
    end = time.monotonic() + 10
    while True:
        try:
            with come_in(node, id_, trust) as foe:
                return foe.taken(f"$grid/in/{id_}/c/state", payload)
        except (ssl.SSLError, ConnectionError):
            assert time.monotonic() < end


def come_in(node: Node, id_: str, trust: Path) -> Foe:
    """Mosquitto 2.0 starts anew for each change of a link, and is away for a moment."""
    port, end = node.tls_port, time.monotonic() + 10
    assert port is not None
    while True:
        try:
            return Foe(port, id_, context(trust))
        except (ssl.SSLError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.1)
