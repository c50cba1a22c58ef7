"""Real nodes, each in a network namespace of its own, on one pretend Ethernet: cables are pulled, halves split, Pis lose power.

Nothing touches the host's network: every interface lives in a namespace. All names carry this process's number, and what a killed
run left behind is cleared away by the next one.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from live import GRID, RATED_W, Tap, agreed, alive, wait_until

from agent import control
from agent.broker import program

NET = "10.77.0."
PORT, METER_PORT = 1883, 5020
HALVES = ("half0", "half1")  # the switch's two bridges; whole is when all cables are in the first
TAG = "grid-"
LOOK_S = 0.2  # a witness's pause between two rounds
CLONE_NEWNET = 0x40000000  # man 2 setns
MAD = """
import os, pathlib, runpy, sys, time
real, began, file = time.time, time.time(), pathlib.Path(sys.argv.pop(1))
def mad():
    start, rate = map(float, file.read_text().split())
    return start + (real() - began) * rate
time.time = mad
runpy.run_module("agent", run_name="__main__", alter_sys=True)
"""  # the agent under another wall clock; its monotonic clock stays true, as a Pi's does whatever happens to its date
RESTART_S = 1.0  # until a service manager starts again what failed

Pairs = list[tuple[str, str]]
CUBE: Pairs = [(a, b) for a, b in ("ab", "bc", "cd", "da", "ef", "fg", "gh", "he", "ae", "bf", "cg", "dh")]  # 8 nodes, 12 links


class Refused(Exception):
    """The kernel does not let us have namespaces, or what they need."""


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(("ip", *words), capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        raise Refused(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread's new sockets, threads and children are in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


def _sweep() -> None:
    """What runs left behind that did not live to clear up: their processes end, their namespaces and disks go."""
    for name in re.findall(rf"^{TAG}\S+", ip("netns", "list"), re.M):
        if not alive(int(name.split("-")[1])):
            _end(name)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, where, *_ = line.split()
        if re.fullmatch(rf"{TAG}\d+", device) and not alive(int(device.removeprefix(TAG))):
            subprocess.run(("umount", "-l", where), check=False)


def _end(namespace: str) -> None:
    for pid in ip("netns", "pids", namespace, check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "del", namespace, check=False)
    Path(f"/etc/netns/{namespace}/hosts").unlink(missing_ok=True)
    with suppress(OSError):
        Path(f"/etc/netns/{namespace}").rmdir()


class Ear(Tap):
    """A stranger at a broker who asks again when it was started anew in between."""

    def __init__(self, port: int, *filters: str) -> None:
        super().__init__(port, *filters)
        self._client.on_connect = lambda *_: self._client.subscribe([(one, 0) for one in (*filters, "$SYS/broker/version")])


class Pi:
    """One node: its namespace with one cable to the switch, its broker, agent and meter, its state directory."""

    def __init__(self, lan: "Lan", number: int, name: str, id_: str, net_w: int) -> None:
        self.lan, self.name, self.id, self.net_w = lan, name, id_, net_w
        self.address = f"{NET}{number}"
        self.namespace = f"{lan.tag}-{name}"
        self.mac = f"02:00:00:77:00:{number:02x}"
        self.cable = ""
        self.folder = lan.folder / name
        self.state = self.folder / "state"
        self.state.mkdir(parents=True)
        self.config = self.folder / "grid.toml"
        self.clock = self.folder / "clock"
        self.shown = {net_w}  # all that its meter ever showed; None joins it for an unknown value
        self.running: dict[str, subprocess.Popen[bytes]] = {}  # agent, broker and meter
        self.configure()

    def configure(self, more: str = "") -> None:
        text = f'[node]\nid = "{self.id}"\nrated_w = {RATED_W}\n[state]\ndir = "state"\n'
        text += '[[meter]]\nname = "house"\nmodel = "eastron-sdm120"\nrole = "grid"\nevery_s = 0.25\nhost = "127.0.0.1"\n'
        self.config.write_text(text + f"tcp_port = {METER_PORT}\n{more}")

    def hosts(self, **names: str) -> None:
        """What this node's resolver says of these names; can be changed while it runs."""
        folder = Path(f"/etc/netns/{self.namespace}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{to} {name}\n" for name, to in names.items()))

    def mad(self, start_s: float, rate: float = 1.0) -> None:
        """Its wall clock shows this unix time when the agent starts, and goes so fast. Can be changed while it runs."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{start_s} {rate}")
        new.replace(self.clock)

    # power and cable

    def power_on(self, own_broker: bool = False) -> "Pi":
        """With `own_broker` the agent starts the Mosquitto, otherwise the service manager does, with the files beside the state."""
        self.plug_in()
        self.start_meter()
        if own_broker:
            self.start_agent("--broker")
        else:
            self.start_agent()
            self.start_broker()
        return self

    def plug_in(self) -> None:
        switch = self.lan.switch
        self.cable = self.lan.new_cable()
        ip("netns", "add", self.namespace)
        ip("-n", switch, "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", self.namespace, "link", "set", "eth0", "address", self.mac)
        ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.namespace, "link", "set", device, "up")
        ip("-n", switch, "link", "set", self.cable, "master", HALVES[0], "up")

    def cut(self) -> None:
        """Pull the cable."""
        ip("-n", self.lan.switch, "link", "set", self.cable, "down")

    def heal(self) -> None:
        ip("-n", self.lan.switch, "link", "set", self.cable, "up")

    def deaf_to(self, other: "Pi", deaf: bool = True) -> None:
        """What we send to that one is lost without a word, or (False) arrives again."""
        if deaf:
            ip(
                "-n",
                self.namespace,
                "neigh",
                "replace",
                other.address,
                "lladdr",
                "02:00:00:77:ff:ff",
                "nud",
                "permanent",
                "dev",
                "eth0",
            )
        else:
            ip("-n", self.namespace, "neigh", "del", other.address, "dev", "eth0", check=False)

    def power_off(self) -> None:
        """Pull the plug: not even a closing TCP packet gets out. All that stays is the state directory."""
        self.cut()
        self.kill("agent", "broker", "meter")
        ip("netns", "del", self.namespace)

    # processes

    def _spawn(self, log: str, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                ("ip", "netns", "exec", self.namespace, *command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.folder,
            )

    def start_agent(self, *options: str) -> None:
        grid = (sys.executable, "-c", MAD, str(self.clock)) if self.clock.exists() else GRID
        self._serve("agent", *grid, "run", "-c", str(self.config), *options)

    def start_broker(self) -> None:
        conf = self.state / "mosquitto.conf"
        wait_until(conf.exists, 20, self.log)
        self._serve("broker", program(), "-c", str(conf))

    def _serve(self, name: str, *command: str) -> None:
        """Run it and start it again whenever it ends by itself, as a service manager does: at once or, after a failure, soon."""
        child = self.running[name] = self._spawn(f"{name}.log", *command)
        threading.Thread(target=self._mind, args=(name, child, command), daemon=True).start()

    def _mind(self, name: str, child: "subprocess.Popen[bytes]", command: tuple[str, ...]) -> None:
        while True:
            if child.wait() != 0:
                time.sleep(RESTART_S)
            with self.lan.lock:
                if self.running.get(name) is not child:
                    return
                child = self.running[name] = self._spawn(f"{name}.log", *command)

    def kill(self, *names: str) -> None:
        """kill -9; of one moment when there are several. Not started again."""
        with self.lan.lock:
            children = [child for name in names if (child := self.running.pop(name, None)) is not None]
            for child in children:
                child.kill()
        for child in children:
            child.wait(5)

    def pid(self, name: str) -> int:
        return self.running[name].pid

    def start_meter(self, net_w: int | None = None, jitter_w: int = 0) -> None:
        """Show this from now on. With jitter it walks, and who asks for the net must ask the agents."""
        self.kill("meter")
        self.net_w = self.net_w if net_w is None else net_w
        self.shown.add(self.net_w)
        fixed = {"w": -self.net_w, "import_wh": 1000, "export_wh": 1000}
        entry: dict[str, Any] = {"host": "127.0.0.1", "tcp_port": METER_PORT, "unit": 1, "model": "eastron-sdm120", "fixed": fixed}
        if jitter_w:
            entry |= {"jitter_w": jitter_w, "period_s": 0.1}
        (self.folder / "meter.scene").write_text(json.dumps({"meters": [entry]}))
        self._serve("meter", sys.executable, "-m", "drivers.simulated", "meter.scene")

    def end(self) -> None:
        self.kill("agent", "broker", "meter")
        _end(self.namespace)

    # a disk of its own

    def disk(self, kib: int) -> None:
        """Before the first start: let the state directory be a small file system."""
        command = ("mount", "-t", "tmpfs", "-o", f"size={kib}k", self.lan.tag, str(self.state))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(f"mount of a tmpfs: {done.stderr.strip()}")
        self.lan.disks.append(self.state)

    def remount(self, how: str) -> None:
        command = ("mount", "-o", f"remount,{how}", str(self.state))
        subprocess.run(command, check=True)
        for child in self.running.values():  # `ip netns exec` gave each a view of the mounts of its own
            subprocess.run(("nsenter", "-t", str(child.pid), "-m", *command), check=True)

    # looks

    def ask(self, do: str, argument: str | None = None, wait_s: float = 15.0) -> dict[str, Any]:
        """The agent's answer to one command; {} while there is none."""
        try:
            body: dict[str, Any] = json.loads(control.ask(self.state, do, argument, wait_s=wait_s))
        except control.Unreachable:
            return {}
        return body

    def status(self) -> dict[str, Any]:
        return self.ask("status", wait_s=3.0)

    def alerts(self) -> dict[str, str]:
        return {alert["id"]: alert["text"] for alert in self.status().get("alerts", [])}

    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text() if path.exists() else ""

    def tap(self, *filters: str) -> Tap:
        with inside(self.namespace):
            return Ear(PORT, *filters)

    def held(self, *filters: str) -> dict[str, bytes]:
        """All retained messages of the broker that these filters match; {} while it does not answer."""
        try:
            with self.tap(*filters) as tap:
                return {message.topic: message.payload for message in tap.retained()}
        except OSError:
            return {}

    def kept(self, name: str) -> Any:
        """What the store has on disk under this name."""
        try:
            return json.loads((self.state / f"{name}.json").read_bytes())["data"]
        except FileNotFoundError:
            return {}

    def relation(self) -> dict[str, int]:
        """The sibling relation as this node's disk has it: id -> counter, odd joined."""
        return {id_: edge["counter"] for id_, edge in self.kept("siblings").items()}


class Lan:
    """The pretend Ethernet and all nodes on it. `with Lan(folder) as lan:` ends what it started, also when the test fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"{TAG}{os.getpid()}"
        self.switch = f"{self.tag}-switch"
        self.pis: dict[str, Pi] = {}
        self.disks: list[Path] = []
        self.lock = threading.Lock()  # of what runs
        self._cables = 0

    def __enter__(self) -> "Lan":
        """Raises Refused."""
        _sweep()
        ip("netns", "add", self.switch)
        try:
            for half in HALVES:
                ip("-n", self.switch, "link", "add", half, "type", "bridge")
                ip("-n", self.switch, "link", "set", half, "up")
        except Refused:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pi in self.pis.values():
            pi.end()
        _end(self.switch)
        for disk in self.disks:
            subprocess.run(("umount", "-l", str(disk)), check=False)

    def new_cable(self) -> str:
        self._cables += 1
        return f"port{self._cables}"

    def pi(self, name: str, net_w: int = -500, id_: str | None = None) -> Pi:
        """A node, still without power."""
        pi = self.pis[name] = Pi(self, 10 + len(self.pis), name, id_ or name, net_w)
        return pi

    def join(self, pairs: Pairs) -> None:
        """The first of each pair joins the second."""
        for joiner, other in pairs:
            address = f"{self.pis[other].address}:{PORT}"
            answer: dict[str, Any] = {}

            def joined(joiner: str = joiner, address: str = address, answer: dict[str, Any] = answer) -> bool:
                answer.clear()
                answer.update(self.pis[joiner].ask("join", address))
                return "joined" in answer

            wait_until(joined, 30, lambda answer=answer, pair=(joiner, other): f"{pair}: {answer}")

    def network(self, pairs: Pairs, **net_w: int) -> list[Pi]:
        """Nodes of these names and watts, joined and in agreement; those that are on the Lan already take part."""
        for name, watts in net_w.items():
            self.pi(name, watts)
        pis = list(self.pis.values())
        for pi in pis:
            if not pi.cable:
                pi.power_on()
        for pi in pis:
            wait_until(pi.status, 30, pi.log)
        self.join(pairs)
        self.agree(pis, seconds=40.0)
        return pis

    def split(self, *names: str) -> None:
        """These are cut off from all others, but not from each other."""
        for name in names:
            ip("-n", self.switch, "link", "set", self.pis[name].cable, "master", HALVES[1])

    def heal(self) -> None:
        for pi in self.pis.values():
            ip("-n", self.switch, "link", "set", pi.cable, "master", HALVES[0])

    def agree(self, pis: Iterable[Pi], heard: int | None = None, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until these show one digest, all that they know (or so many) are heard, and the net is the sum of their meters."""
        pis = list(pis)
        net_w = sum(pi.net_w for pi in pis)
        summary: dict[str, Any] = wait_until(
            lambda: agreed(pis, net_w, heard),  # type: ignore[arg-type]  # of a node it asks the status and no more
            seconds,
            lambda: f"agreement on {net_w} W, {heard} heard: {[(pi.name, pi.status().get('summary')) for pi in pis]}",
        )
        return summary

    def lost(self, pis: Iterable[Pi]) -> int:
        """Updates that did not arrive: what any of these nodes shows of any other, against the other's meter."""
        pis = list(pis)
        looks = [pi.status()["nodes"] for pi in pis]
        return sum(nodes.get(pi.id, {}).get("net_w") != pi.net_w for nodes in looks for pi in pis)


class Witness:
    """Asks every agent again and again, and writes down what must never be seen."""

    def __init__(self, lan: Lan, walking: bool = False, rated: dict[str, int] | None = None) -> None:
        self.lan, self.walking, self.rated = lan, walking, rated or {}
        self.looks = 0
        self.wrong: list[str] = []
        self.seen: dict[str, list[dict[str, Any]]] = {}  # by the name of the node: its summaries in order
        self._said: dict[str, tuple[Any, ...]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="witness", daemon=True)

    def __enter__(self) -> "Witness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _work(self) -> None:
        while not self._stop.wait(LOOK_S):
            for pi in list(self.lan.pis.values()):
                status = pi.status()
                if status:
                    self.looks += 1
                    self.wrong += [f"{pi.name}: {text}: {status}" for text in self._faults(pi, status)]
                    self.seen.setdefault(pi.name, []).append(status["summary"])

    def _faults(self, pi: Pi, status: dict[str, Any]) -> Iterator[str]:
        summary, nodes = status["summary"], status["nodes"]
        members = summary["members"]
        if len(set(members)) != len(members) or summary["heard"] != len(members) or summary["heard"] > summary["nodes"]:
            yield "members counted double or not at all"
        if summary["net_w"] != sum(nodes[id_]["net_w"] for id_ in members):
            yield "the net is not the sum of its members"
        for id_ in members:
            shown = set().union(*(other.shown for other in self.lan.pis.values() if other.id == id_))
            if not self.walking and shown and nodes[id_]["net_w"] not in shown:
                yield f"{id_} never showed {nodes[id_]['net_w']} W"
        unknown_w = sum(self.rated.get(id_, RATED_W) for id_ in nodes if id_ not in members)
        if len(nodes) != summary["nodes"] or (summary["low_w"], summary["high_w"]) != (
            summary["net_w"] - unknown_w,
            summary["net_w"] + unknown_w,
        ):
            yield "bounds are not widened by the ratings of the unknown"
        if summary["oldest_s"] < 0 or any((row["age_s"] or 0) < 0 for row in nodes.values()):
            yield "negative age"
        said = (summary["net_w"], summary["price_u"], summary["sell_u"])
        if self._said.setdefault(summary["digest"], said) != said:
            yield "one digest, two nets or prices"


@contextmanager
def a_lan(folder: Path) -> Iterator[Lan]:
    """A pretend Ethernet; the test is skipped, with the kernel's reason, where there can be none."""
    lan = Lan(folder)
    try:
        lan.__enter__()
    except (Refused, FileNotFoundError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    with ExitStack() as stack:
        stack.push(lan.__exit__)
        yield lan


def within(seconds: float, condition: Callable[[], Any], what: str | Callable[[], Any] = "") -> float:
    """Seconds until the condition holds."""
    began_s = time.monotonic()
    wait_until(condition, seconds, what)
    return time.monotonic() - began_s
