"""Real parts for tests: nodes of a Mosquitto, an agent and a simulated meter on free loopback ports, ended whatever happens.

GRID_MOSQUITTO names another Mosquitto to test with; its directory comes first in the PATH of everything started here.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from patience import wait_until
from ports import free_ports
from tap import Tap, held

from agent import authority, bundle, control
from agent.broker import Process
from agent.notary import Authority

ROOT = Path(__file__).parent.parent
RATED_W = 10_000
STALE_S = 20.0  # 15 s after the last version, and the machine may be busy
SETTLE_S = 25.0  # until a change has gone round and all agree; two restarts of a broker fit in

if "GRID_MOSQUITTO" in os.environ:
    other = Path(os.environ["GRID_MOSQUITTO"])
    assert other.name == "mosquitto", "GRID_MOSQUITTO must be the path of a program called mosquitto"
    os.environ["PATH"] = f"{other.parent}:{os.environ.get('PATH', '')}"
for name in ("GRID_CONFIG", "COLUMNS", "NO_COLOR", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "GRID_BROKER"):
    os.environ.pop(name, None)
os.environ["PYTHONPATH"] = str(ROOT)
GRID = (sys.executable, "-m", "agent")


def alive(pid: int) -> bool:
    """Does this process run? One that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_in(path: Path) -> int | None:
    """The living process whose pid a file holds."""
    try:
        pid = int(path.read_text())
    except (OSError, ValueError):
        return None
    return pid if alive(pid) else None


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


class Node:
    """One node and its processes. All its meter shows is one fixed number of watts."""

    def __init__(self, folder: Path, id_: str, net_w: int, port: int, shared: bool = False, tls_port: int | None = None) -> None:
        self.id, self.net_w, self.port, self.shared, self.tls_port = id_, net_w, port, shared, tls_port
        self.folder = folder / id_
        self.folder.mkdir(parents=True)
        self.config = self.folder / "grid.toml"
        self.meter_port = free_ports(1)[0]
        self.broker: Process | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.meter: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, more: str = "", **node: str) -> None:
        """Write the configuration: `more` is appended, keywords are TOML values of [node]."""
        keys = {"id": f'"{self.id}"', "rated_w": str(RATED_W), **node}
        text = "[node]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        text += f'[mqtt]\nport = {self.port}\nbind = "127.0.0.1"\nshared = {str(self.shared).lower()}\n'
        text += f"tls_port = {self.tls_port}\n[network]\nclosed = true\n" if self.tls_port is not None else ""
        text += '[state]\ndir = "."\n'
        text += '[[meter]]\nname = "house"\nmodel = "eastron-sdm120"\nrole = "grid"\nevery_s = 0.25\n'
        self.config.write_text(text + f'host = "127.0.0.1"\ntcp_port = {self.meter_port}\n{more}')

    # processes

    def start(self, meter: bool = True, broker: bool = True) -> "Node":
        if meter:
            self.start_meter()
        self.start_agent()
        if broker and not self.shared:
            wait_until((self.folder / "mosquitto.conf").exists, 10, "the agent writes its broker's configuration")
            self.start_broker()
        return self

    def _spawn(self, log: str, *command: str, **more: Any) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.folder, **more)

    def start_agent(self, *options: str) -> None:
        self.agent = self._spawn("agent.log", *GRID, "run", "-c", str(self.config), *options)

    def start_broker(self) -> None:
        self.broker = Process(self.folder / "mosquitto.conf")
        self.broker.open()

    def start_meter(self, net_w: int | None = None) -> None:
        self.net_w = self.net_w if net_w is None else net_w
        fixed = {"w": -self.net_w, "import_wh": 1000, "export_wh": 1000}
        entry = {"host": "127.0.0.1", "tcp_port": self.meter_port, "unit": 1, "model": "eastron-sdm120", "fixed": fixed}
        (self.folder / "meter.scene").write_text(json.dumps({"meters": [entry]}))
        self.meter = self._spawn("meter.log", sys.executable, "-m", "drivers.simulated", "meter.scene")

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def stop_agent(self) -> int:
        """SIGTERM; its exit code."""
        assert self.agent is not None
        self.agent.terminate()
        return self.agent.wait(15)

    def kill_broker(self) -> None:
        pid = wait_until(self.broker_pid, 10, "no broker runs")  # it may just be taking up a new link
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), 5, "a killed broker ends")

    def broker_pid(self) -> int | None:
        return pid_in(self.folder / "mosquitto.pid")

    def stop_meter(self) -> None:
        assert self.meter is not None
        self.meter.kill()
        self.meter.wait()

    def close(self) -> None:
        for child in (self.agent, self.meter):
            if child is not None and child.poll() is None:
                child.terminate()
        for child in (self.agent, self.meter):
            if child is not None:
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        if self.broker is not None:
            self.broker.close()
        pid = self.broker_pid()  # one that an agent or a test started
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    # looks

    def status(self) -> dict[str, Any]:
        """The agent's own account; {} while it does not answer."""
        try:
            body: dict[str, Any] = json.loads(control.ask(self.folder, "status"))
        except control.Unreachable:
            return {}
        return body

    def alerts(self) -> dict[str, str]:
        return {alert["id"]: alert["text"] for alert in self.status().get("alerts", [])}

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def cli(self, *words: str, seconds: float = 30.0, **env: str) -> "subprocess.CompletedProcess[str]":
        """One `grid` command about this node."""
        return cli(*words, "-c", str(self.config), seconds=seconds, **env)

    def tap(self, *filters: str) -> Tap:
        return Tap(self.port, *filters)

    def held(self, *filters: str) -> dict[str, bytes]:
        return held(self.tap, *filters)

    def read(self, topic: str) -> bytes | None:
        return self.held(topic).get(topic)

    def say(self, topic: str, payload: bytes | str, retain: bool = True) -> None:
        with self.tap() as tap:
            tap.say(topic, payload, retain)

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    @property
    def door(self) -> int:
        """The port that siblings come in by."""
        return self.port if self.tls_port is None else self.tls_port

    def join(self, other: "Node") -> "subprocess.CompletedProcess[str]":
        done = self.cli("join", f"127.0.0.1:{other.door}")
        assert done.returncode == 0, done.stderr
        return done


def cli(*words: str, seconds: float = 30.0, **env: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **env}
    return subprocess.run([*GRID, *words], capture_output=True, text=True, timeout=seconds, env=environment, check=False)


def agreed(nodes: Iterable[Node], net_w: int | None = None, heard: int | None = None) -> dict[str, Any] | None:
    """One summary once all these nodes show the same digest, hear as many as they know, and (if given) this net."""
    looks = [node.status().get("summary", {}) for node in nodes]
    first = looks[0]
    if not all(looks) or any(look["digest"] != first["digest"] for look in looks):
        return None
    if any((look["heard"], look["nodes"]) != (first["heard"], first["nodes"]) for look in looks):
        return None
    if first["heard"] != (first["nodes"] if heard is None else heard) or net_w not in (None, first["net_w"]):
        return None
    # what DESIGN promises: an equal digest is an equal net and an equal price
    assert len({(look["net_w"], look["price_u"], look["sell_u"]) for look in looks}) == 1, looks
    return first


def admit(first: Node, trust: Path, id_: str, operator: bool = False) -> None:
    """Make whoever owns this trust directory a member, by a bundle of that node's authority."""
    made = authority.admit(first.trust, Authority.load(first.trust, None), id_, [], operator, None, time.time())
    authority.install(trust, bundle.write(made).encode(), id_, time.time(), True)


class Grid:
    """All nodes of one test. `with Grid(tmp_path) as grid:` ends what it started, also when the test fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, Node] = {}

    def node(
        self, id_: str, net_w: int = -500, start: bool = True, port: int | None = None, shared: bool = False, closed: bool = False
    ) -> Node:
        """A closed one gets its bundle from the first of them, which is the operator's."""
        first = next((node for node in self.nodes.values() if node.tls_port is not None), None)
        node = Node(self.folder, id_, net_w, port or free_ports(1)[0], shared, free_ports(1)[0] if closed else None)
        self.nodes[id_] = node
        if closed and first is None:
            authority.create(node.trust, "test", id_, None, time.time())
        elif closed and first is not None:
            admit(first, node.trust, id_)
        return node.start() if start else node

    def network(self, closed: bool = False, **net_w: int) -> list[Node]:
        """Nodes of these names and watts, each joined to the one before, in agreement."""
        nodes = [self.node(name, watts, closed=closed) for name, watts in net_w.items()]
        for node in nodes:
            wait_until(node.status, 15, node.log)
        for left, right in zip(nodes[1:], nodes, strict=False):
            wait_until(lambda a=left, b=right: a.cli("join", f"127.0.0.1:{b.door}").returncode == 0, 20, "join")
        self.agree(nodes, sum(net_w.values()), len(nodes))
        return nodes

    def agree(self, nodes: Iterable[Node], net_w: int | None = None, heard: int | None = None, seconds: float = SETTLE_S) -> Any:
        """Wait until these nodes agree (on this net, hearing so many)."""
        nodes = list(nodes)
        return wait_until(
            lambda: agreed(nodes, net_w, heard),
            seconds,
            lambda: f"agreement on {net_w} W, {heard} heard: {[(n.id, n.status().get('summary')) for n in nodes]}",
        )

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def __enter__(self) -> "Grid":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
