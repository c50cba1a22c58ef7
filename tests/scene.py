"""Two honest real nodes, a hostile third, and somebody who watches what the honest ones show while they are attacked."""

import base64
import json
import os
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from foes import FakeBroker, Foe
from live import Grid, Node, admit, rss_mb
from patience import wait_until
from ports import free_ports
from tap import Tap

from agent import seal
from agent.notary import Authority
from agent.seal import Member

LOOK_S = 0.05
WATTS = {"a": -500, "b": 1200}
LOAD = '[[load]]\nname = "heater"\npin = 27\nrated_w = 2000\nmin_on_s = 0\nmin_off_s = 0\n'
FOE = "y"
TICKS = os.sysconf("SC_CLK_TCK")


class Seen(NamedTuple):
    """What came of one attack. `changed`: facts of the honest agents that were ever another; `shown`: topics that held a forgery
    for a local reader; `left`: those that still do; `repaired_s`: the longest that one did."""

    changed: list[str]
    shown: list[str]
    left: list[str]
    repaired_s: float
    named: list[str]
    grown_mb: float
    cpu: float  # of the agent and its broker, cores


class Ear(Tap):
    """Hears with the time."""

    def __init__(self, port: int, *filters: str) -> None:
        self.timed: list[tuple[float, str, bytes]] = []
        super().__init__(port, *filters)
        self._client.on_connect = lambda *_: self._client.subscribe([(one, 0) for one in filters])  # of a broker started anew

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self.timed.append((time.monotonic(), message.topic, bytes(message.payload)))
        super()._on_message(client, data, message)


def facts(status: Mapping[str, Any]) -> dict[str, object]:
    """What nobody may change from outside."""
    summary = status["summary"]
    return {
        "net": summary["net_w"],
        "price": (summary["price_u"], summary["sell_u"]),
        "members": tuple(summary["members"]),
        "nodes": summary["nodes"],
        "watts": tuple((id_, status["nodes"].get(id_, {}).get("net_w")) for id_ in WATTS),
        "siblings": tuple(status["siblings"]),
        "loads": tuple((name, row["on"], row["mode"]) for name, row in status["loads"].items()),
        "meters": tuple((row["name"], row["quality"], row.get("w")) for row in status["meters"]),
        "tariff": status["tariff"]["import_u"],
        "left": status["left"],
    }


class Scene:
    """The honest nodes a and b, joined; a has dialled y too, which is ours to play. Closed when `closed`, else open."""

    def __init__(self, folder: Path, closed: bool) -> None:
        self.closed, self.grid = closed, Grid(folder)
        self.foe_port, self.member, self.trust = free_ports(1)[0], None, folder / FOE
        self.broker: FakeBroker | None = None
        self.tape: Ear | None = None
        self._told = 0

    def __enter__(self) -> "Scene":
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        self.a, self.b = (self.grid.node(id_, watts, start=False, closed=self.closed) for id_, watts in WATTS.items())
        self.a.configure(LOAD)
        if self.closed:
            admit(self.a, self.trust, FOE)
            self.authority, self.member = Authority.load(self.a.trust, None), Member.load(self.trust)
        self.broker = FakeBroker(self.foe_port, FOE, self.context(server=True) if self.closed else None)
        for node in self.grid.nodes.values():
            node.start()
        for node in self.grid.nodes.values():
            wait_until(node.status, 15, node.log)
        self.tape = Ear(self.a.port, "grid/node/b/#", "grid/network/#")
        self.join(self.a, self.b.door)
        self.join(self.a, self.foe_port)
        wait_until(lambda: FOE in self.a.status()["siblings"], 10, self.a.log)
        wait_until(lambda: self.broker and "a" in self.broker.links, 10, "a dials y")
        self.grid.agree(self.grid.nodes.values(), sum(WATTS.values()), 2)
        self.greet()
        time.sleep(1.0)  # births

    def __exit__(self, *_: object) -> None:
        if self.broker is not None:
            self.broker.close()
        if self.tape is not None:
            self.tape.close()
        self.grid.close()

    def join(self, node: Node, port: int) -> None:
        address = f"127.0.0.1:{port}"
        wait_until(lambda: node.cli("join", address).returncode == 0, 20, lambda: node.cli("join", address).stderr)

    # the closed network, and what its hostile member has

    def issue(self, id_: str, days: float = 700, operator: bool = False, by: Authority | None = None) -> Member:
        """A member of its own key, whatever the network knows of it."""
        by, key = by or self.authority, seal.new_key()
        cert = by.issue(id_, seal.public_of(key), operator, int(days), time.time())
        return Member(by.ca, seal.der_of(cert), key)

    def context(self, member: Member | None = None, server: bool = False, bare: bool = False) -> ssl.SSLContext:
        """TLS as that member (y), or without a certificate. Of others nothing is checked: it is a foe's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        if not server:
            context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if member is not None:
            folder = self.trust / f"as-{time.monotonic_ns()}"
            folder.mkdir(parents=True)
            (folder / "key").write_bytes(seal.key_pem(member._key.private_bytes_raw()))
            (folder / "cert").write_bytes(seal.pem_of(base64.b64decode(member.cert)))
            context.load_cert_chain(folder / "cert", folder / "key")
        elif not bare:
            context.load_cert_chain(self.trust / "node.pem", self.trust / "node.key")
        return context

    def sign(self, topic: str, keys: Mapping[str, Any], member: Member | None = None, cert: str = "") -> bytes:
        """A record, signed by y (or that member) for this canonical topic; bare in an open network."""
        body = json.dumps(dict(keys) | ({"cert": cert} if cert else {}), separators=(",", ":")).encode()
        signer = member or self.member
        return signer.sign(topic, body) if signer is not None else body

    def greet(self) -> None:
        """y's own good info: it belongs to the network, and has no meter."""
        self._told += 1
        keys = {"siblings": {"a": 1}, "dials": [], "version": self._told}
        payload = self.sign(f"grid/node/{FOE}/info", keys, cert=self.member.cert if self.member else "")
        with self.sibling() as foe:
            foe.write(f"$grid/in/{FOE}/{FOE}/info", payload)
            time.sleep(0.1)

    def link(self) -> FakeBroker:
        """y as the broker that a dials, once a has."""
        broker = self.broker
        assert broker is not None
        wait_until(lambda: "a" in broker.links, 15, "a dials y")
        time.sleep(0.1)
        return broker

    def sibling(self) -> Foe:
        """y as a client of a's broker, where siblings come in."""
        return Foe(self.a.door, FOE, self.context() if self.closed else None)


class Watch:
    """Looks at both honest nodes until the end of the `with`; `seen` tells what came of it."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.nodes = scene, list(scene.grid.nodes.values())
        self.forged: dict[str, set[bytes]] = {}
        self._stop = threading.Event()
        self._looks: dict[str, dict[str, set[object]]] = {node.id: {} for node in self.nodes}
        self._slots: set[int] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def forge(self, topic: str, payload: bytes) -> tuple[str, bytes]:
        """What a local reader must not see for long."""
        if topic.startswith("grid/"):
            self.forged.setdefault(topic, set()).add(payload)
        return topic, payload

    def __enter__(self) -> "Watch":
        first = self.nodes[0].status()
        self.alerts, self.refused = {alert["id"] for alert in first["alerts"]}, first["refused"]
        self.base = {node.id: facts(node.status()) for node in self.nodes}
        self._pids = [pid for node in self.nodes for pid in (node.agent.pid if node.agent else 0, node.broker_pid() or 0) if pid]
        self._before = [(rss_mb(pid), _cpu_s(pid)) for pid in self._pids]
        self.ears = {node.id: Ear(node.port, "grid/#") for node in self.nodes}
        for ear in self.ears.values():
            ear.retained()
            ear.timed.clear()
        self._began_s = time.monotonic()
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            for node in self.nodes:
                status = node.status()
                if status:
                    self._slots.add(status["summary"]["slot"])
                    for name, fact in facts(status).items():
                        self._looks[node.id].setdefault(name, set()).add(fact)

    def settle(self, seconds: float) -> None:
        """Until no topic holds a forgery any more, or so long."""
        end_s = time.monotonic() + seconds
        while self.held() and time.monotonic() < end_s:
            time.sleep(0.05)

    def held(self) -> list[str]:
        """Where a forgery stands now."""
        found = []
        for id_, ear in self.ears.items():
            last = {topic: payload for _, topic, payload in list(ear.timed)}
            found += [f"{id_}: {topic}" for topic, bad in self.forged.items() if last.get(topic) in bad]
        return found

    def __exit__(self, *_: object) -> None:
        self._took_s = time.monotonic() - self._began_s
        self._stop.set()
        self._thread.join()
        for ear in self.ears.values():
            ear.close()

    def seen(self) -> Seen:
        changed = []
        for id_, looks in self._looks.items():
            for name, values in looks.items():
                if values != {self.base[id_][name]} and not (name == "price" and len(self._slots) > 1):
                    changed.append(f"{name} of {id_}")
        shown, longest_s = set(), 0.0
        for ear in self.ears.values():
            since: dict[str, float] = {}
            for at_s, topic, payload in ear.timed:
                bad = payload in self.forged.get(topic, ())
                if bad:
                    shown.add(topic)
                    since.setdefault(topic, at_s)
                elif topic in since:
                    longest_s = max(longest_s, at_s - since.pop(topic))
        grown_mb = max((_rss_mb(pid) - mb for pid, (mb, _) in zip(self._pids, self._before, strict=True)), default=0.0)
        cpu = sum(max(0.0, _cpu_s(pid) - cpu_s) for pid, (_, cpu_s) in zip(self._pids, self._before, strict=True)) / self._took_s
        return Seen(sorted(changed), sorted(shown), self.held(), longest_s, self.named(), grown_mb, cpu)

    def named(self) -> list[str]:
        """What a refused meanwhile, its alerts that are new, and whom it cut off; the text of `refused` follows within 5 s."""
        status = self.nodes[0].status()
        new = [alert["id"] for alert in status["alerts"] if alert["id"] not in self.alerts and alert["id"] != "refused"]
        count = status["refused"] - self.refused
        return [*([f"{count} refused"] if count else []), *new, *(f"cut {id_}" for id_ in status.get("cut", ()))]


def _rss_mb(pid: int) -> float:
    with suppress(OSError, StopIteration):
        return rss_mb(pid)
    return 0.0  # a broker that was started anew


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def every(*parts: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [one for part in parts for one in part]
