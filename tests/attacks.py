"""The attacks: what a stranger, a local program, a sibling and a broker that turned write, and how they say it.

Each runs against the two honest nodes of a Scene under the eyes of a Watch. y is a member of good standing until it attacks.
"""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from floods import broken_packets, flood, flood_by_broker, inboxes, invented, loris, oversized
from foes import Foe
from forgeries import AGAIN, APART_S, COMMANDS, EVERY, WATTS, Write, above, everywhere, kinds, say_all, view
from live import admit
from patience import wait_until
from scene import FOE, Scene, Watch

from agent import wire
from agent.clock import Clock
from agent.notary import Authority
from agent.seal import Member
from agent.wire import MAX_VERSION


class Attack(NamedTuple):
    """`run` returns what else there is to tell. `networks`: which of them must withstand it; `fresh`: y is cut off for it."""

    name: str
    by: str
    run: Callable[[Scene, Watch], str | None]
    networks: tuple[str, ...] = ("closed",)
    fresh: bool = False
    long: bool = False  # in a closed network only with GRID_ATTACKS


# who writes


class Stubborn:
    """Waits for each answer, and comes again whenever it is thrown out (by Mosquitto 2.0.11 after a write that was refused)."""

    def __init__(self, come: Callable[[], Foe]) -> None:
        self._come, self._foe = come, come()
        self.said = self.taken = 0

    def write(self, topic: str, payload: bytes) -> None:
        self.said += 1
        for _ in range(2):
            try:
                self.taken += self._foe.taken(topic, payload)
                return
            except OSError:
                self._foe.close()
                self._foe = self._come()

    def __enter__(self) -> "Stubborn":
        return self

    def __exit__(self, *_: object) -> None:
        self._foe.close()

    def __str__(self) -> str:
        return f"{self.said - self.taken} of {self.said} writes refused by the broker"


def by_local(scene: Scene, watch: Watch) -> str:
    with Stubborn(lambda: Foe(scene.a.port, "local")) as foe:
        say_all(scene, watch, foe.write, times=1)
        return str(foe)


def by_sibling(scene: Scene, watch: Watch) -> str:
    """What it may write, its own inbox, with all signatures."""
    with Stubborn(scene.sibling) as foe:
        own = f"$grid/in/{FOE}/"
        say_all(scene, watch, foe.write, times=1)
        say_all(scene, watch, lambda topic, payload: foe.write(topic, payload) if topic.startswith(own) else None, EVERY)
        return str(foe)


def by_broker(scene: Scene, watch: Watch) -> None:
    broker = scene.link()
    say_all(scene, watch, broker.write, ("cert",))  # with all of them it would be cut off before its last


def view_by_stranger(scene: Scene, watch: Watch) -> None:
    with Foe(scene.a.door, "stranger") as foe:
        for topic, payload in view(scene).items():
            foe.write(*watch.forge(topic, payload))
        time.sleep(0.3)


def view_by_broker(scene: Scene, watch: Watch) -> None:
    broker = scene.link()
    for topic, payload in view(scene).items():
        broker.write(*watch.forge(topic, payload))
    time.sleep(0.3)


def strangers(scene: Scene, watch: Watch) -> str:
    """None of them may come in: without TLS, without a certificate, of another authority, expired, with another's name."""
    other = Authority.new("elsewhere", time.time())
    foes: dict[str, Callable[[], ssl.SSLContext | None]] = {
        "without TLS": lambda: None,
        "no certificate": lambda: scene.context(bare=True),
        "another authority's": lambda: scene.context(scene.issue("b", by=other)),
        "expired": lambda: scene.context(scene.issue("b", days=-1)),
        "made by itself": lambda: scene.context(scene.issue("b", by=Authority.new("test", time.time()))),
    }
    let_in = []
    for name, context in foes.items():
        with suppress(OSError), Foe(scene.a.door, "b", context()) as foe:
            let_in.append(name)
            say_all(scene, watch, foe.write)
    assert not let_in, f"let in: {let_in}"
    return f"{len(foes)} of {len(foes)} refused at the door"


def expired_records(scene: Scene, watch: Watch) -> str:
    """Signed well, with certificates that do not count: of another authority and, for a clock that is right, expired."""
    elsewhere, clock_good = Authority.new("elsewhere", time.time()), Clock().read(0.0)[1]
    days = {"expired": -1, "of another authority": 700} if clock_good else {"of another authority": 700}
    with scene.sibling() as foe:
        for _ in range(AGAIN):
            version = above(scene)
            for id_ in ("z", "b"):
                for name, last in days.items():
                    member = scene.issue(id_, days=last, by=None if name == "expired" else elsewhere)
                    _tell(scene, foe.write, id_, member, version)
            time.sleep(APART_S)
    return " and ".join(days)


def _tell(scene: Scene, write: Write, id_: str, member: Member, version: int) -> None:
    for kind, keys in (("info", {"siblings": {"a": 1}, "version": version}), ("state", {**WATTS, "version": version + 1})):
        topic = wire.node_topic(id_, kind)
        write(wire.inbox_topic(FOE, topic), scene.sign(topic, keys, member, member.cert if kind == "info" else ""))


def revoked(scene: Scene, watch: Watch) -> str:
    """x was a member and is revoked: neither does it come in nor does anybody take what it signed."""
    place = scene.grid.folder / "x"
    admit(scene.a, place, "x")
    told = scene.a.cli("revoke", "x")
    assert told.returncode == 0, told.stderr + told.stdout
    member = Member.load(place)
    assert member is not None
    with scene.sibling() as foe:
        for _ in range(AGAIN):
            _tell(scene, foe.write, "x", member, above(scene))
            time.sleep(APART_S)
    taken = []
    with suppress(OSError), Foe(scene.a.door, "x", scene.context(member)) as foe:
        taken = [topic for topic in ("$grid/in/x/x/state", "grid/net", "$grid/in/y/b/state") if foe.taken(topic, b"1")]
    assert not taken, f"a revoked node wrote {taken}"
    return "its writes are refused"


def replay(scene: Scene, watch: Watch) -> None:
    """All that b ever signed, from its birth on, and as if of last week, by the sibling and by the broker."""
    broker = scene.link()
    heard = scene.tape.heard if scene.tape is not None else []
    wait_until(lambda: len(heard) > 2, 10, "b tells its state again, and its first one is old")
    tape = [(message.topic, message.payload) for message in heard]
    if scene.closed:
        b = Member.load(scene.b.trust)
        assert b is not None
        for version in range(1, scene.a.status()["nodes"]["b"]["version"]):
            topic = "grid/node/b/state"
            tape.append((topic, scene.sign(topic, {**WATTS, "at": "2026-11-15T00:00:00Z", "version": version}, b)))
    with scene.sibling() as foe:
        for topic, payload in tape:
            for place in everywhere(topic):
                broker.write(place, payload)
            foe.write(wire.inbox_topic(FOE, topic), payload)
        time.sleep(APART_S)


def versions(scene: Scene, watch: Watch) -> None:
    """2^63, 2^53 and the greatest jump, for y itself, for others, and for topics that nobody holds yet."""
    with scene.sibling() as foe:
        for version in (2**63, MAX_VERSION + 1, MAX_VERSION, MAX_VERSION - 1, 2**33, -1):
            for topic, keys in kinds(scene, version).items():
                if topic.startswith(("grid/node/a/", "grid/node/b/")):
                    foe.write(wire.inbox_topic(FOE, topic), scene.sign(topic, {**keys, "version": version}))
            topic = f"grid/node/{FOE}/info"
            keys = {"siblings": {"a": 1}, "version": version}
            foe.write(wire.inbox_topic(FOE, topic), scene.sign(topic, keys, cert=scene.member.cert if scene.member else ""))
        time.sleep(APART_S)


def deleted(scene: Scene, watch: Watch) -> None:
    """Every retained topic of a's broker is emptied, twice."""
    held = [topic for topic in scene.a.held("grid/#") if not topic.startswith(("grid/sibling/", "grid/alert/"))]
    broker = scene.link()
    for _ in range(2):
        for topic in held:
            broker.write(*watch.forge(topic, b""))
        time.sleep(0.3)


def commanded(scene: Scene, watch: Watch) -> None:
    """Relay commands, kept by the broker and not, in every spelling."""
    broker = scene.link()
    for retain in (True, False):
        for topic in COMMANDS:
            for word in (b"OFF", b"off", b"AUTO", b"0"):
                broker.write(topic, word, retain)
    time.sleep(1.2)


BOTH = ("closed", "open")
ATTACKS = (
    Attack("strangers at the siblings' door", "stranger", strangers),
    Attack("own view written", "stranger", view_by_stranger, ("open",)),
    Attack("every topic of every kind", "local program", by_local),
    Attack("every topic of every kind", "sibling", by_sibling),
    Attack("certificates that do not count", "sibling", expired_records),
    Attack("a revoked node", "x", revoked),
    Attack("replay of old records", "sibling, broker", replay, BOTH),
    Attack("versions to 2^63", "sibling", versions, BOTH),
    Attack("packets that no MQTT is", "all", broken_packets, BOTH),
    Attack("oversized packets", "all", oversized, BOTH),
    Attack("half-open connections", "stranger", loris),
    Attack("own view written", "broker", view_by_broker, BOTH),
    Attack("every topic emptied", "broker", deleted, BOTH),
    Attack("commands to a relay", "broker", commanded),
    Attack("every topic of every kind", "broker", by_broker),
    Attack("invented inboxes", "broker", inboxes),
    Attack("flood of bad signatures", "sibling", flood),
    Attack("flood laid to another", "broker", flood_by_broker, fresh=True),
    Attack("invented ids", "sibling", invented, BOTH, fresh=True, long=True),
)
