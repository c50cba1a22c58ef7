"""What the benchmarks share: nodes made of real parts, what the kernel knows of a process, and the report."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench_desk import HOST, Client, Desk, Meter
from ports import free_ports

from agent import control, root
from agent.broker import Broker, Process
from agent.cli.sample import Graph, toml_file
from agent.events import Bridge

ROOT = Path(__file__).parent.parent
RATED_W = 17250
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GROW_S = 90.0  # eight nodes on a busy machine
STARTED = time.monotonic()


def progress(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", file=sys.stderr, flush=True)


def end(child: "subprocess.Popen[Any]") -> None:
    """End a process that we started, whatever state it is in."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def rss_mb(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


def cpu_s(pid: int) -> float:
    """CPU time used so far, user and system, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Row:
    """One figure; `baseline` is what it is to be compared with, measured in this run and named by `beside`."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    beside: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None


@dataclass
class Report:
    """What a benchmark found. Times are only told; `wrong` counts what must never be, on any machine."""

    rows: list[Row] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, baseline: float | None = None, beside: str = "") -> None:
        self.rows.append(Row(name, value, unit, baseline, beside))

    def must(self, right: bool, text: str) -> None:
        if not right:
            self.wrong.append(text)

    def show(self, as_json: bool) -> None:
        if as_json:
            print(json.dumps({"rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows], "wrong": self.wrong}, indent=1))
            return
        table = [("name", "value", "unit", "baseline", "ratio", "")]
        table += [(r.name, _figure(r.value), r.unit, _figure(r.baseline), _figure(r.ratio), r.beside) for r in self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(5)]
        for name, value, unit, baseline, ratio, beside in table:
            figures = f"{value:>{widths[1]}}  {unit:{widths[2]}}  {baseline:>{widths[3]}}  {ratio:>{widths[4]}}"
            print(f"{name:{widths[0]}}  {figures}  {beside}".rstrip())
        for text in self.wrong:
            print(f"WRONG: {text}")


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 100 else 0}f}"


@dataclass
class Bench:
    """What a benchmark works with. Whatever is opened is put on the stack first, so that it is closed on any way out."""

    folder: Path
    stack: ExitStack
    desk: Desk = field(default_factory=Desk)
    report: Report = field(default_factory=Report)


def main(run: Callable[[Bench, argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Run a benchmark: exit code 0, 1 when a figure that must be right is wrong, 2 when it fails, 130 when interrupted."""
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--dir", type=Path, help="keep all files, logs too, in this new directory")
    arguments = parser.parse_args()
    for number in STOPS:  # SIGINT, too: whom a shell starts in the background inherits it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="grid-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
            if arguments.dir is not None:
                arguments.dir.mkdir(parents=True)
            bench = Bench((arguments.dir or Path(folder)).absolute(), stack)
            try:
                run(bench, arguments)
            finally:
                for number in STOPS:
                    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
    except KeyboardInterrupt:
        progress("interrupted")
        sys.exit(130)
    except OSError as error:
        progress(f"failed: {error}; --dir keeps the logs")
        sys.exit(2)
    bench.report.show(arguments.json)
    sys.exit(1 if bench.report.wrong else 0)


class Node:
    """One node of real parts, its broker up at once: its files, its Mosquitto, its agent, the meter it reads."""

    def __init__(self, bench: Bench, id_: str, every_s: float = 1.0, watts: int = 0) -> None:
        self.id, self.meter = id_, Meter(bench.desk, watts)
        self.port = free_ports(1)[0]
        self.folder = bench.folder / id_
        self.folder.mkdir(parents=True)
        meter = {"name": "house", "model": "eastron-sdm630", "role": "grid", "host": HOST, "tcp_port": self.meter.port}
        tables = {
            "node": {"id": id_, "rated_w": RATED_W, "deadband_w": 0},
            "mqtt": {"port": self.port, "bind": HOST},
            "state": {"dir": "."},
            "meter": [meter | {"every_s": every_s}],
        }
        self.path = self.folder / "grid.toml"
        self.path.write_text(toml_file(tables))
        config = root.load(self.path)
        self.files = root.broker(config, config.state.dir, lambda event: None)
        self.files.write_main()
        self.broker = Process(self.files.config)
        self.agent: subprocess.Popen[bytes] | None = None
        self._closed = False
        bench.stack.callback(self.close)
        self.broker.open()
        Client(bench.desk, self.port).close()

    def start(self) -> None:
        command = [sys.executable, "-m", "agent", "run", "-c", str(self.path)]
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def ask(self, do: str, argument: str | None = None, for_s: float = 60.0) -> dict[str, Any]:
        """Put a command to the agent until it is done. Blocks: see Desk.work. Raises OSError."""
        end_s = time.monotonic() + for_s
        while True:
            try:
                answer: dict[str, Any] = json.loads(control.ask(self.folder, do, argument))
            except control.Unreachable as error:
                answer = {"error": str(error)}
            if "error" not in answer:
                return answer
            if self._closed or time.monotonic() > end_s:
                raise OSError(f"{self.id}: {answer['error']}")
            time.sleep(0.1)

    def close(self) -> None:
        """Twice is fine."""
        self._closed = True
        if self.agent is not None:
            end(self.agent)
        self.broker.close()

    @property
    def agent_pid(self) -> int:
        assert self.agent is not None
        return self.agent.pid

    @property
    def broker_pid(self) -> int:
        pid = self.files.pid()
        assert pid is not None
        return pid


def grow(bench: Bench, nodes: Sequence[Node], pairs: Graph) -> None:
    """Start the agents and join them into this graph; return when every link is seen at both its ends. Raises OSError."""
    for node in nodes:
        node.start()

    def join(number: int) -> None:
        for joiner, joined in pairs:
            if joiner == number:
                nodes[joiner].ask("join", f"{HOST}:{nodes[joined].port}")

    def joined() -> None:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(join, range(len(nodes))))
        end_s = time.monotonic() + GROW_S
        while time.monotonic() < end_s:
            looks = [node.ask("status") for node in nodes]
            links = sum(sibling["link"] == "linked" for look in looks for sibling in look["siblings"].values())
            whole = {(look["summary"]["heard"], look["summary"]["digest"]) for look in looks}
            if links == 2 * len(pairs) and len(whole) == 1 and looks[0]["summary"]["heard"] == len(nodes):
                return
            time.sleep(0.2)
        raise OSError(f"no agreement within {GROW_S:.0f} s of joining")

    bench.desk.work(joined, 2 * GROW_S)


def bare(bench: Bench, id_: str, port: int, links: Sequence[Bridge] = (), defaults: bool = False) -> Broker:
    """Run a broker with our configuration and bridges and no agent; `defaults`: with Mosquitto's own limits of its queues."""
    files = Broker(id_, bench.folder / id_, port, HOST, "grid/sibling/", lambda event: None)
    files.write_main()
    files.link(links)
    if defaults:
        lines = files.config.read_text().splitlines(keepends=True)
        files.config.write_text("".join(line for line in lines if not line.startswith(("max_queued", "max_inflight"))))
    broker = Process(files.config)
    bench.stack.callback(broker.close)
    broker.open()
    return files
