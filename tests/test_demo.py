"""grid demo: the sample network as a user meets it, and nothing left of it afterwards."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from live import GRID, alive, cli, pid_in
from patience import wait_until
from ports import free_ports, free_range
from tap import Tap

from agent.broker import program
from agent.cli.sample import Sample, graph

SAMPLE = ["mill", "oak-house", "solar-barn", "workshop"]

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # started by nohup it is ignored, here and in every child; the sample respects that


def running(text):
    """Processes whose command line names this."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text in (folder / "cmdline").read_text() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return [pid for pid in found if alive(pid)]


class Demo:
    """One `grid demo`, its output in a file."""

    def __init__(self, folder, nodes, *options):
        self.port, self.dir, self.nodes = free_range(2 * nodes), folder / "demo", nodes
        self.out = folder / "demo.out"
        command = [*GRID, "demo", "--port", str(self.port), "--nodes", str(nodes), "--dir", str(self.dir), *options]
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def ready(self):
        wait_until(lambda: "\nready" in self.said() or self.process.poll() is not None, 40, self.said)
        assert "\nready" in self.said(), self.said()
        return self

    def said(self):
        return self.out.read_text()

    def held(self, number, *filters):
        with Tap(self.port + number, *filters) as tap:
            return {message.topic: message.payload for message in tap.retained()}

    def nets(self):
        """(net, price) at every broker."""
        held = [self.held(number, "grid/net", "grid/price") for number in range(self.nodes)]
        return {(one.get("grid/net"), one.get("grid/price")) for one in held}

    def end(self, *numbers):
        for number in numbers or (signal.SIGINT,):
            self.process.send_signal(number)
        code = self.process.wait(30)
        assert running(str(self.dir)) == [], self.said()
        return code


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(nodes, *options):
        started.append(Demo(tmp_path, nodes, *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(30)
        for pid in running(str(one.dir)):
            os.kill(pid, signal.SIGKILL)


def test_the_sample(demo):
    """Four nodes: what they show, then faults as the README invites to, then Ctrl-C, twice."""
    one = demo(4).ready()
    ready = next(line for line in one.said().splitlines() if line.startswith("ready"))
    assert re.match(r"ready after \d+\.\d s: net -?\d+ W  \d+\.\d+ EUR/kWh  4 of 4 nodes  digest [0-9a-f]{16}", ready)
    assert sorted(path.name for path in one.dir.iterdir() if path.is_dir()) == SAMPLE
    assert "\x1b" not in one.said()
    for number, id_ in enumerate(SAMPLE):
        assert {"grid.toml", "agent.pid", "mosquitto.pid"} <= {path.name for path in (one.dir / id_).iterdir()}
        assert pid_in(one.dir / id_ / "agent.pid")
        assert json.loads(one.held(number, "grid/summary")["grid/summary"])["node"] == id_  # ids sort in port order
        assert cli("check", str(one.dir / id_ / "grid.toml")).returncode == 0
    wait_until(lambda: len(one.nets()) == 1, 10, one.nets)
    assert None not in one.nets().pop()

    with Tap(one.port, "grid/#") as tap:
        topics = [message.topic for message in tap.retained()]
        assert len(topics) == len(set(topics))  # nobody sees a node twice
        assert not [topic for topic in topics if not topic.startswith("grid/")]
        assert {topic.split("/")[2] for topic in topics if topic.startswith("grid/node/")} == set(SAMPLE)
    overview = one.held(0, "grid/+")
    assert set(overview) == {"grid/net", "grid/price", "grid/summary"}
    with Tap(one.port, "#") as tap:
        assert {message.topic for message in tap.retained()} == set(topics)  # and a bare # shows no more

    # an agent is killed, a broker is asked to end by hand; the rest goes on
    mill, workshop = one.dir / "mill", one.dir / "workshop"
    os.kill(pid_in(mill / "agent.pid"), signal.SIGKILL)
    broker = pid_in(workshop / "mosquitto.pid")
    os.kill(broker, signal.SIGTERM)
    wait_until(lambda: pid_in(workshop / "mosquitto.pid") not in (None, broker), 10, "it is started again")
    wait_until(lambda: pid_in(mill / "agent.pid") is None, 5)
    assert one.process.poll() is None
    back = subprocess.Popen([*GRID, "run", "-c", "grid.toml"], cwd=mill, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        config = str(workshop / "grid.toml")
        wait_until(lambda: json.loads(cli("status", "--json", "-c", config).stdout or '{"summary":0}')["summary"], 10)
        wait_until(lambda: json.loads(cli("status", "--json", "-c", config).stdout)["summary"]["heard"] == 4, 25)
        wait_until(lambda: len(one.nets()) == 1, 10, one.nets)
        assert one.end(signal.SIGINT, signal.SIGINT) == 0
        assert back.wait(10) == 0  # one that was brought back by hand is ended, too
    finally:
        if back.poll() is None:
            back.kill()
            back.wait()
    assert "Traceback" not in one.said()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", one.port))


def test_a_broker_brought_back_by_hand_is_ended_too(demo):
    one = demo(2).ready()
    folder = next(path for path in sorted(one.dir.iterdir()) if path.is_dir())
    os.kill(pid_in(folder / "mosquitto.pid"), signal.SIGKILL)
    wait_until(lambda: pid_in(folder / "mosquitto.pid") is None, 5)
    time.sleep(0.5)
    assert pid_in(folder / "mosquitto.pid") is None  # what is killed stays dead
    back = subprocess.Popen([program(), "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: pid_in(folder / "mosquitto.pid"), 5)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) == 0
        wait_until(lambda: back.poll() is not None, 5, "the broker goes with its sample")
    finally:
        if back.poll() is None:
            back.kill()
        back.wait()


def test_for_some_seconds_in_a_temporary_directory():
    port = free_range(2)
    done = cli("demo", "--port", str(port), "--nodes", "2", "--for", "1", seconds=60)
    assert (done.returncode, done.stderr) == (0, "")
    folder = re.match(r"starting 2 nodes in (\S+)\nready", done.stdout)[1]
    assert not Path(folder).exists()
    assert running(folder) == []
    assert len([line for line in done.stdout.splitlines() if re.match(r"\d\d:\d\d:\d\d  \S+ +net ", line)]) == 2


@pytest.mark.parametrize(("nodes", "kind"), [(1, "ring"), (3, "line"), (3, "full"), (5, "random")])
def test_graphs(demo, nodes, kind):
    one = demo(nodes, "--graph", kind, "--seed", "7", "--speed", "60").ready()
    ids = sorted(path.name for path in one.dir.iterdir() if path.is_dir())
    assert len(ids) == nodes
    pairs = {frozenset((ids[i], ids[j])) for i, j in graph(kind, nodes, 7)}
    shown = {
        frozenset((id_, sibling))
        for id_ in ids
        for sibling in json.loads(cli("siblings", "--json", "-c", str(one.dir / id_ / "grid.toml")).stdout)
    }
    assert shown == pairs
    wait_until(lambda: len(one.nets()) == 1, 10, one.nets)
    assert one.end() == 0


TOGETHER = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize(("numbers", "when"), [([signal.SIGTERM], "ready"), (TOGETHER, "starting"), ([signal.SIGHUP], "joining")])
def test_every_way_to_end_it(demo, numbers, when):
    one = demo(2)
    match when:
        case "ready":
            one.ready()
        case "starting":
            wait_until(lambda: one.said().startswith("starting"), 20)
        case "joining":
            wait_until(lambda: len(list(one.dir.glob("*/agent.pid"))) == 2, 20)
    one.process.send_signal(signal.SIGSTOP)  # so that they arrive together, as when a terminal is closed
    for number in numbers:
        one.process.send_signal(number)
    began_s = time.monotonic()
    assert one.end(signal.SIGCONT) == 0, one.said()
    assert time.monotonic() - began_s < 15
    assert "Traceback" not in one.said()


def test_the_same_directory_twice(demo, tmp_path):
    one = demo(2).ready()
    assert one.end() == 0
    again = demo(2).ready()  # other ports, the same state
    wait_until(lambda: len(again.nets()) == 1, 10, again.nets)
    assert again.end() == 0


def test_a_directory_in_use_is_left_alone(tmp_path):
    """Another sample there would be given other ports, sockets and settings under its feet."""
    folder = tmp_path / "demo" / "mill"
    folder.mkdir(parents=True)
    with (folder / "agent.pid").open("w") as held:
        held.write("4711\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=r"an agent \(pid 4711\) runs in .*/demo/mill: another sample\? End it, or choose"):
            Sample(tmp_path / "demo", free_range(2), 2, 1, 1.0).open()
    assert [path.name for path in folder.iterdir()] == ["agent.pid"]


def test_an_installed_copy_says_where_the_sample_is(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.cli.sample.SAMPLE", tmp_path / "config" / "sample")
    with pytest.raises(OSError, match=r"the sample needs a checkout. There: .venv/bin/pip install -e \. && deploy/run\.sh"):
        Sample(tmp_path / "demo", free_range(2), 2, 1, 1.0).open()
    assert not (tmp_path / "demo").exists()


def test_a_taken_port_is_said():
    taken = free_ports(1)[0]
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        other.listen()
        done = cli("demo", "--port", str(taken - 1), "--for", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"grid: port \d+ is taken: another sample, or a broker\? Choose other ports with --port\n", done.stderr)


def test_a_closed_sample(demo):
    """The same by bundles, TLS and signatures; siblings come in on the ports behind the brokers'."""
    one = demo(3, "--closed", "--graph", "full").ready()
    assert len(one.nets()) == 1
    for id_ in SAMPLE[:3]:
        folder = one.dir / id_
        status = json.loads(cli("status", "--json", "-c", str(folder / "grid.toml")).stdout)
        assert (status["mode"], status["network"], status["summary"]["heard"]) == ("closed", "sample", 3)
        assert sorted(sibling["address"] for sibling in status["siblings"].values()) == sorted(
            f"127.0.0.1:{one.port + 3 + number}" for number in range(3) if SAMPLE[number] != id_
        )
    assert one.end() == 0
