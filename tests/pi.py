"""A real node in a network namespace of its own: its power, its cable, its clock, its disk."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live import GRID, RATED_W
from namespaces import Refused, end, inside, ip
from patience import wait_until
from tap import Tap, held

from agent import control
from agent.broker import program

if TYPE_CHECKING:
    from netns import Lan

NET = "10.77.0."
PORT, METER_PORT = 1883, 5020
HALVES = ("half0", "half1")  # the switch's two bridges; whole is when all cables are in the first
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
        end(self.namespace)

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

    def ask(self, do: str, argument: str | None = None) -> dict[str, Any]:
        """The agent's answer to one command; {} while there is none."""
        try:
            body: dict[str, Any] = json.loads(control.ask(self.state, do, argument))
        except control.Unreachable:
            return {}
        return body

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def alerts(self) -> dict[str, str]:
        return {alert["id"]: alert["text"] for alert in self.status().get("alerts", [])}

    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text() if path.exists() else ""

    def tap(self, *filters: str) -> Tap:
        with inside(self.namespace):
            return Ear(PORT, *filters)

    def held(self, *filters: str) -> dict[str, bytes]:
        return held(self.tap, *filters)

    def kept(self, name: str) -> Any:
        """What the store has on disk under this name."""
        try:
            return json.loads((self.state / f"{name}.json").read_bytes())["data"]
        except FileNotFoundError:
            return {}

    def relation(self) -> dict[str, int]:
        """The sibling relation as this node's disk has it: id -> counter, odd joined."""
        return {id_: edge["counter"] for id_, edge in self.kept("siblings").items()}
