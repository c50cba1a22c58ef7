"""The sample network: its files, brokers, simulated meters and agents, all as processes of this machine."""

import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from agent import authority, bundle, closed, control, root
from agent.broker import Broker, Process
from agent.closed import TRUST
from agent.config import Config
from agent.notary import Authority

SAMPLE = Path(__file__).parent.parent.parent / "config" / "sample"

Graph = list[tuple[int, int]]
Look = dict[str, Any] | None


def graph(kind: str, nodes: int, seed: int) -> Graph:
    """Who joins whom, as pairs of node numbers from 0; each pair once, every graph connected."""
    line = [(i, i - 1) for i in range(1, nodes)]
    match kind:
        case "line":
            return line
        case "ring":
            return [*line, (nodes - 1, 0)] if nodes > 2 else line
        case "full":
            return [(j, i) for i, j in itertools.combinations(range(nodes), 2)]
        case _:
            chance = random.Random(seed)
            tree = [(i, chance.randrange(i)) for i in range(1, nodes)]
            spare = [(j, i) for i, j in itertools.combinations(range(nodes), 2) if (j, i) not in tree]
            return tree + chance.sample(spare, min(nodes // 2, len(spare)))


def toml(value: Any) -> str:
    """One TOML value; what the sample's files hold and no more."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def toml_file(tables: dict[str, Any]) -> str:
    out = ["# Written by 'grid demo'.\n"]
    for name, table in tables.items():
        for one in table if isinstance(table, list) else [table]:
            out.append(f"[[{name}]]\n" if isinstance(table, list) else f"[{name}]\n")
            out += [f"{key} = {toml(value)}\n" for key, value in one.items()]
    return "".join(out)


def free_port(taken: set[int]) -> int:
    """A loopback port that nobody listens on now and that is not `taken`, which it is afterwards."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port


@dataclass
class Member:
    """One node of the sample: its files, its broker, its agent."""

    config: Config
    files: Broker
    broker: Process
    agent: subprocess.Popen[bytes] | None = None


@dataclass
class Sample:
    """All processes of one sample network. `close` ends them, whatever has happened to them."""

    directory: Path
    port: int
    nodes: int
    seed: int
    speed: float
    closed: bool = False
    members: list[Member] = field(default_factory=list)
    meters: subprocess.Popen[bytes] | None = None
    _logs: list[IO[bytes]] = field(default_factory=list)

    def open(self) -> None:
        """Write the files, start brokers, meters and agents. Raises OSError, ConfigError."""
        models = sorted(SAMPLE.glob("*.toml"))
        if not models:
            raise OSError(f"there is no {SAMPLE}: the sample needs a checkout. There: .venv/bin/pip install -e . && deploy/run.sh")
        for pid_file in sorted(self.directory.glob("*/agent.pid")):
            if (pid := _agent(pid_file)) is not None:
                raise OSError(f"an agent (pid {pid}) runs in {pid_file.parent}: another sample? End it, or choose another --dir")
        self._configure(models)
        for member in self.members:
            member.broker.open()
        self.meters = self._start("meters", self.directory, "-m", "drivers.simulated", str(self.directory / "meters.json"))
        (self.directory / "meters.pid").write_text(f"{self.meters.pid}\n")
        for member in self.members:
            folder = member.config.path.parent
            member.agent = self._start("agent", folder, "-m", "agent", "run", "-c", str(member.config.path))

    def door(self, number: int) -> int:
        """The port that siblings of this node come in by."""
        return self.port + number + (self.nodes if self.closed else 0)

    def _admit(self, trust: Path, id_: str) -> None:
        """The first node makes the network, the others become members by a bundle of its."""
        shutil.rmtree(trust, ignore_errors=True)
        if not self.closed:
            return
        if not self.members:
            authority.create(trust, "sample", id_, None, time.time())
            return
        first = self.members[0].config.state.dir / TRUST
        made = authority.admit(first, Authority.load(first, None), id_, [], False, None, time.time())
        authority.install(trust, bundle.write(made).encode(), id_, time.time(), True)

    def _configure(self, models: list[Path]) -> None:
        served: list[dict[str, Any]] = []
        taken = {self.port + number for number in range(2 * self.nodes)}
        for number in range(self.nodes):
            tables = tomllib.loads(models[number % len(models)].read_text())
            if self.nodes > len(models):
                tables["node"]["id"] = f"n{number + 1:0{len(str(self.nodes))}d}-{tables['node']['id']}"
            folder = self.directory / tables["node"]["id"]
            folder.mkdir(parents=True, exist_ok=True)
            for old in ("siblings", "records", "seeds"):  # of an earlier sample, perhaps with another graph
                (folder / f"{old}.json").unlink(missing_ok=True)
            tables["mqtt"] = {"port": self.port + number, "bind": "127.0.0.1"}
            if self.closed:
                tables["mqtt"]["tls_port"] = self.door(number)
                tables["network"] = {"closed": True}
            tables["state"] = {"dir": "."}
            for meter in tables["meter"]:
                meter |= {"host": "127.0.0.1", "tcp_port": free_port(taken)}
            path = folder / "grid.toml"
            path.write_text(toml_file(tables))
            config = root.load(path)
            served += [self._served(number, meter) for meter in config.meters]
            self._admit(config.state.dir / TRUST, config.node.id)
            files = root.broker(config, folder, lambda event: None, closed.load(config))
            files.write_main()
            self.members.append(Member(config, files, Process(files.config)))
        (self.directory / "meters.json").write_text(json.dumps({"speed": self.speed, "seed": self.seed, "meters": served}))

    def _served(self, number: int, meter: Any) -> dict[str, Any]:
        """What the simulator shows on one meter: all meters of a node look at the same household."""
        simulate = meter.simulate
        house = {
            "seed": self.seed * 1000 + number,
            "load_w": simulate.load_w,
            "pv_w": simulate.pv_w,
            "battery_w": simulate.battery_w,
            "battery_wh": simulate.battery_wh,
        }
        quantity = "pv" if meter.role == "generator" else meter.role
        line = {"host": meter.host, "tcp_port": meter.tcp_port, "unit": meter.unit or 1}
        return {**line, "model": meter.model, "quantity": quantity, "house": house}

    def _start(self, name: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        log = (folder / f"{name}.log").open("ab")
        self._logs.append(log)
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def join(self, pairs: Graph) -> None:
        """Join the nodes into this graph, through the ordinary join. Raises OSError with the first failure."""
        failures: list[str] = []

        def work(joiner: Member, ports: list[int]) -> None:
            for port in ports:
                deadline = time.monotonic() + 60
                while True:
                    try:
                        answer = json.loads(control.ask(joiner.config.state.dir, "join", f"127.0.0.1:{port}"))
                    except control.Unreachable as error:
                        answer = {"error": str(error)}
                    if "error" not in answer:
                        break
                    if time.monotonic() > deadline or self.died():
                        failures.append(f"{joiner.config.node.id}: {answer['error']}")
                        return
                    time.sleep(0.1)

        by_joiner: dict[int, list[int]] = {}
        for joiner, joined in pairs:
            by_joiner.setdefault(joiner, []).append(self.door(joined))
        threads = [threading.Thread(target=work, args=(self.members[j], ports), daemon=True) for j, ports in by_joiner.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise OSError(self.died() or "; ".join(failures))

    def looks(self) -> dict[str, Look]:
        """Every node's own account of the network; None where its agent does not answer."""
        found: dict[str, Look] = {}
        for member in self.members:
            try:
                found[member.config.node.id] = json.loads(control.ask(member.config.state.dir, "status", wait_s=2.0))
            except control.Unreachable:
                found[member.config.node.id] = None
        return found

    def agreed(self, pairs: Graph) -> dict[str, Any] | None:
        """One node's status once all hear all, show one digest, and every edge is known at both its ends."""
        looks = [look for look in self.looks().values() if look is not None]
        whole = [look for look in looks if look["summary"]["heard"] == look["summary"]["nodes"] == self.nodes]
        if len(whole) < self.nodes or len({look["summary"]["digest"] for look in looks}) != 1:
            return None
        linked = sum(s["link"] == "linked" for look in looks for s in look["siblings"].values())
        return looks[0] if linked == 2 * len(pairs) else None

    def died(self) -> str:
        """A process that should have come up and did not; "" while all is well."""
        for member in self.members:
            if member.broker.dead:
                return f"the broker of {member.config.node.id} ended: see {member.config.path.parent / 'mosquitto.log'}"
            if member.agent is not None and member.agent.poll() is not None:
                return f"the agent of {member.config.node.id} ended: see {member.config.path.parent / 'agent.log'}"
        if self.meters is not None and self.meters.poll() is not None:
            return f"the meters' simulator ended: see {self.directory / 'meters.log'}"
        return ""

    def close(self) -> None:
        children = [member.agent for member in self.members] + [self.meters]
        alive = [child for child in children if child is not None and child.poll() is None]
        for child in alive:
            child.terminate()
        for child in alive:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for member in self.members:  # what was brought back by hand is ours to end, too
            _end(partial(_agent, member.config.state.dir / "agent.pid"))
            member.broker.close()
            _end(partial(_broker, member.files))
        for log in self._logs:
            log.close()


def _agent(pid_file: Path) -> int | None:
    """The agent that runs in this file's directory: it holds a lock on the file (runtime.claim)."""
    try:
        with pid_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
    except (OSError, ValueError):
        pass  # it never ran
    return None


def _broker(files: Broker) -> int | None:
    pid = files.pid()
    try:
        return pid if pid is not None and files.ours(pid) else None
    except OSError:
        return None  # it has just gone


def _end(look: Callable[[], int | None]) -> None:
    """End the process that `look` finds, if any, and wait until it finds none."""
    pid, deadline = look(), time.monotonic() + 10
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while pid is not None and look() == pid and time.monotonic() < deadline:
        time.sleep(0.05)


def busy(port: int, nodes: int) -> int | None:
    """The first of the wanted ports that is taken."""
    for wanted in range(port, port + nodes):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                return wanted
    return None
