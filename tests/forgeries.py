"""What a foe writes: a record of every kind, every topic of a node's own view, commands; signed as well as it can."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from scene import FOE, Scene, Watch

from agent import wire

AGAIN = 3  # times of each forgery: a node that is new counts with its second growth
APART_S = 0.55

Write = Callable[[str, bytes], object]
Keys = Mapping[str, Any]
WATTS = {"net_w": 9000, "produced_w": 9000, "consumed_w": 0, "quality": "good", "zone": "main", "rated_w": 10_000}


def kinds(scene: Scene, version: int) -> dict[str, dict[str, Any]]:
    """By canonical topic: a record of every kind, as it would do the most harm. `version` above those of the honest."""
    day, now = int(time.time() // 86_400), {"version": version}
    rates = json.loads(json.dumps(scene.a.status()["tariff"]))
    energy = {"day": day, "slot_s": 900, "edges": 0, "import_wh": [0, 10**9], "export_wh": [0, 0], "zone": "main"}
    return {
        "grid/node/b/state": {**WATTS, **now},
        "grid/node/a/state": {**WATTS, **now},
        "grid/node/z/state": {**WATTS, **now},
        "grid/node/b/info": {"siblings": {"a": 100}, "left": True, **now},
        "grid/node/a/info": {"siblings": {"b": 100}, "left": True, **now},
        "grid/node/z/info": {"siblings": {"a": 1}, "address": "192.0.2.1:8883", **now},
        f"grid/node/b/{wire.energy_kind(day)}": {**energy, **now},
        f"grid/node/a/{wire.energy_kind(day)}": {**energy, **now},
        "grid/node/b/forecast": {"hours": [1], **now},
        "grid/network/tariff": {**rates, "import_u": 9_990_000, "by": FOE, "version": rates["version"] + 1},
        "grid/network/forgotten/b": {"forgotten": True, "by": FOE, "version": 1},
        "grid/network/forgotten/a": {"forgotten": True, "by": FOE, "version": 1},
        "grid/network/revoked/b": {"keys": [], "by": FOE, "version": 1},
        "grid/network/cert/b": {"cert": "AAAA", "by": FOE, "version": 1},
        "grid/network/weather": {"sky": "green", "by": FOE, "version": 1},
    }


def view(scene: Scene) -> dict[str, bytes]:
    """Everything of a's own view that a script could read, as it is not."""
    summary = scene.a.status()["summary"]
    return {
        "grid/net": b"99999",
        "grid/price": b"9.99",
        "grid/price/sell": b"9.98",
        "grid/summary": json.dumps({**summary, "net_w": 99_999}).encode(),
        "grid/agent/status": b"offline",
        "grid/availability/b": b"offline",
        "grid/meter/house/w": b"99999",
        "grid/load/heater": b"OFF",
        "grid/load/heater/mode": b"manual",
        "grid/alert/fire": b'{"level":"critical","text":"run","since":"now"}',
    }


COMMANDS = ("grid/load/heater/set", "$grid/set/AAAAAAAAAAAAAAAAAAAAAA/heater", "$grid/set//heater")


def everywhere(topic: str) -> Iterator[str]:
    """A canonical topic, and every inbox where a copy could lie."""
    yield topic
    for sibling in (FOE, "b", "a", "z"):
        yield wire.inbox_topic(sibling, topic)


def above(scene: Scene) -> int:
    return max(row["version"] for row in scene.a.status()["nodes"].values()) + 1000


def say_all(scene: Scene, watch: Watch, write: Write, signers: tuple[str, ...] = ("none",), times: int = AGAIN) -> None:
    """Every topic of every kind, some times over; with the signatures that this foe can make."""
    own = view(scene)
    for _ in range(times):
        version = above(scene)
        for topic, keys in kinds(scene, version).items():
            for signer in signers:
                for place in everywhere(topic):
                    write(*watch.forge(place, signed(scene, topic, keys, signer)))
        for topic, payload in own.items():
            write(*watch.forge(topic, payload))
        for topic in COMMANDS:
            write(topic, b"OFF")
        time.sleep(APART_S)


def signed(scene: Scene, topic: str, keys: Keys, signer: str) -> bytes:
    """Not at all, by y in its own name, by y with its certificate in the record, or with letters that are no signature."""
    match signer:
        case "none":
            return json.dumps(keys, separators=(",", ":")).encode()
        case "own":
            return scene.sign(topic, keys)
        case "cert":
            return scene.sign(topic, keys, cert=scene.member.cert if scene.member else "")
    return json.dumps({**keys, "sig": "A" * 86}, separators=(",", ":")).encode()


EVERY = ("none", "own", "cert", "letters")
