"""What reading meters costs: CPU of polling beside modbus4mqtt, how full a serial line gets, microseconds a telegram."""

import argparse
import os
import pty
import select
import subprocess
import termios
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path

from bench import Bench, bare, cpu_s, end, main, progress
from bench_desk import HOST, Client, Meter
from bench_node import agent_cpu, best, loop_cpu
from ports import free_ports
from sml_telegrams import RICH
from telegrams import NETHERLANDS_5, STANDARD

from agent.config import MeterConfig
from agent.events import Event, Metered
from agent.poll import Poll
from drivers.catalog import find
from drivers.faults import Request, SerialEar, frame
from drivers.p1 import P1
from drivers.reading import QUANTITIES
from drivers.registers import words_of
from drivers.sml import Sml
from drivers.tic import Tic

EVERY_S = 0.2  # 5 Hz: modbus4mqtt sleeps 50 ms after each read, then its period, so that 20 Hz is beyond it
PEER_READ_S = 0.05
MODEL = "eastron-sdm630"
# The four watts that the agent asks for at each poll, in one request as the agent's, published in one message. It knows no floats.
PEER = """\
ip: {host}
port: {port}
device_address: 1
update_rate: {rest_s}
scan_batching: 54
registers:
{registers}"""
PEER_REGISTER = "  - {{pub_topic: house, json_key: {name}, table: input, address: {address}, type: uint32}}\n"
TO_GET_IT = "no modbus4mqtt to compare with: python -m venv VENV && VENV/bin/pip install modbus4mqtt; --peer VENV/bin/modbus4mqtt"

BAUD, CHAR_BITS, THINK_S = 9600, 11, 0.02
CHAR_S = CHAR_BITS / BAUD
SILENCE_S = 3.5 * CHAR_S  # between two frames (Modbus over serial line V1.02, 2.5.1.1)


def peer_cpu(bench: Bench, peer: Path, id_: str, polls: int, walk: bool, every_s: float) -> float:
    """CPU seconds of modbus4mqtt for 1,000 polls; `walk`: each read finds other watts, and they are published."""
    meter, heard, folder = Meter(bench.desk, 1000), list[str](), bench.folder / id_
    port = free_ports(1)[0]
    bare(bench, id_, port)
    registers = [
        PEER_REGISTER.format(name=name, address=reg.address) for name, reg in find(MODEL).regs.items() if name.startswith("w")
    ]
    text = PEER.format(host=HOST, port=meter.port, rest_s=every_s - PEER_READ_S, registers="".join(registers))
    (folder / "meter.yaml").write_text(text)
    Client(bench.desk, port, ["modbus4mqtt/house"], lambda topic, payload: heard.append(topic))

    def change() -> None:
        meter.watts = 1000 + (meter.watts + 7) % 1000

    command = [str(peer), "--hostname", HOST, "--port", str(port), "--config", str(folder / "meter.yaml")]
    with (folder / "peer.log").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    bench.stack.callback(end, child)
    if not bench.desk.run(20, lambda: len(heard) > 0):
        raise OSError(f"{peer} published nothing within 20 s")
    bench.desk.run(4.0)
    if walk:
        meter.asked = change
    start, told, begun, before = meter.polls, len(heard), time.monotonic(), cpu_s(child.pid)
    bench.desk.run(3 * polls * every_s, lambda: meter.polls >= start + polls)
    spent, took, done, told = cpu_s(child.pid) - before, time.monotonic() - begun, meter.polls - start, len(heard) - told
    end(child)
    bench.report.add(f"rate of modbus4mqtt, {id_[5:]}", done / took, "Hz", 1 / every_s, "the rate asked for")
    bench.report.must(told >= 0.9 * done if walk else told == 0, f"modbus4mqtt published {told} of {done} polls")
    return spent / done * 1000


def polling(bench: Bench, polls: int, peer: Path | None) -> None:
    report, hz = bench.report, f"{1 / EVERY_S:.0f} Hz"
    progress(f"{polls} polls at {hz}: a bare loop, an agent whose meter stands still, one whose meter changes, and one that idles")
    if peer is None:
        progress(TO_GET_IT)
    loop = loop_cpu(bench, polls, EVERY_S)
    report.add(f"CPU of 1,000 bare reads, {hz}", loop, "s")
    idle = 1000 * EVERY_S * agent_cpu(bench, "idle", 0, walk=False)  # what an agent that polls nothing uses in that time
    for walk, word in ((False, "unchanged"), (True, "changed and published")):
        ours = agent_cpu(bench, f"agent-{word.split()[0]}", polls, walk, EVERY_S)
        base, beside = loop, "bare reads"
        if peer is not None:
            base, beside = peer_cpu(bench, peer, f"peer-{word.split()[0]}", polls, walk, EVERY_S), "modbus4mqtt"
            report.add(f"CPU of 1,000 polls of modbus4mqtt, each {word}", base, "s", loop, "bare reads")
        report.add(f"CPU of 1,000 polls of the agent, each {word}", ours, "s", base, beside)
        report.add("the same less idling", ours - idle, "s", base, beside)


class Wire:
    """The far end of a serial line: units that think, and bytes that take their time both ways."""

    def __init__(self, units: set[int]) -> None:
        self.units, self.busy_s = units, 0.0  # busy: what the answered requests must take on any such line
        map_ = find(MODEL)
        values = dict.fromkeys(QUANTITIES, 0.0) | {"v_l1": 230.0, "v_l2": 230.0, "v_l3": 230.0, "hz": 50.0}
        words = words_of(map_, values)
        self._words = {reg.address + i: word for name, reg in map_.regs.items() for i, word in enumerate(words[name])}
        self._master, self._slave = pty.openpty()
        for end_ in (self._master, self._slave):
            tty.setraw(end_, termios.TCSANOW)
        self.port = os.ttyname(self._slave)
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ear = SerialEar()
        while self._stopped not in select.select([self._master, self._stopped], [], [])[0]:
            came_s = time.monotonic()
            for request in ear.feed(os.read(self._master, 1024)):
                if request.unit in self.units:
                    answer = self._answer(request)
                    self.busy_s += (8 + len(answer)) * CHAR_S + SILENCE_S + THINK_S
                    self._say(answer, came_s + 8 * CHAR_S + THINK_S)

    def _answer(self, request: Request) -> bytes:
        start, count = (int.from_bytes(request.pdu[at : at + 2], "big") for at in (1, 3))
        words = [self._words.get(address, 0) for address in range(start, start + count)]
        return frame(request.unit, bytes([request.pdu[0], 2 * count]) + b"".join(word.to_bytes(2, "big") for word in words))

    def _say(self, data: bytes, start_s: float) -> None:
        """Each byte when its last bit has crossed the line."""
        for number in range(len(data)):
            time.sleep(max(0.0, start_s + (number + 1) * CHAR_S - time.monotonic()))
            os.write(self._master, data[number : number + 1])

    def close(self) -> None:
        with suppress(OSError):
            os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._master, self._slave, self._stopped, self._stop):
            os.close(fd)


def meter_config(unit: int, port: str, every_s: float) -> MeterConfig:
    return MeterConfig(
        name=f"m{unit}",
        model=MODEL,
        role="load",
        port=port,
        host=None,
        baud=BAUD,
        framing="8N1",
        unit=unit,
        tcp_port=502,
        pin=None,
        imp_per_kwh=None,
        every_s=every_s,
        flip=False,
        rated_w=None,
        simulate=None,
    )


def line(alive: set[int], every_s: float, for_s: float) -> tuple[dict[str, float], float]:
    """Good readings a second of two meters on one line of which these live, and all that the line could carry of such."""
    wire, good = Wire(alive), list[tuple[str, float]]()

    def put(event: Event) -> None:
        if isinstance(event, Metered) and event.reading.quality == "good":
            good.append((event.name, time.monotonic()))

    poll = Poll([meter_config(unit, wire.port, every_s) for unit in (1, 2)], put)
    poll.open({})
    time.sleep(3.0)  # their first slow reads are over
    told, busy_s = len(good), wire.busy_s
    time.sleep(for_s)
    counted, used_s = good[told:], wire.busy_s - busy_s
    poll.close()
    wire.close()
    rates = {}
    for unit in (1, 2):
        times = [at_s for name, at_s in counted if name == f"m{unit}"]
        rates[f"m{unit}"] = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    return rates, len(counted) / used_s if used_s else 0.0


def lines(bench: Bench, for_s: float) -> None:
    report = bench.report
    progress(f"two meters on one line of {BAUD} baud for {for_s:.0f} s, as fast as they go; then at 1 Hz; then one of them dead")
    rates, most = line({1, 2}, 0.001, for_s)
    report.add("polls a second of two meters on a line", sum(rates.values()), "1/s", most, "all that the line can carry")
    both, _ = line({1, 2}, 1.0, for_s)
    left, _ = line({1}, 1.0, for_s)
    report.add("a meter's good readings at 1 Hz, both alive", both["m1"], "1/s", 1.0, "its schedule")
    report.add("the same, the other one dead", left["m1"], "1/s", both["m1"], "both alive")
    report.must(left["m2"] == 0.0, "a dead meter gave readings")
    report.must(
        left["m1"] >= 0.9 * both["m1"], f"a dead meter cost the living one on its line: {left['m1']:.2f} of {both['m1']:.2f}/s"
    )


def telegrams(bench: Bench) -> None:
    progress("telegrams")
    for name, reader, telegram, between in (
        ("P1 with CRC", P1(), NETHERLANDS_5, b"\n"),
        ("SML", Sml(), RICH, b"\x77"),
        ("TIC standard", Tic(), STANDARD, b"\n"),
    ):
        reader.feed(telegram * 2)
        bench.report.must([one.quality for one in reader.feed(telegram)] == ["good"], f"{name}: an intact telegram is not read")
        split = best(lambda telegram=telegram, between=between: telegram.split(between), 1000)
        cost = best(lambda telegram=telegram, reader=reader: reader.feed(telegram), 200)
        bench.report.add(f"{name}, a telegram of {len(telegram)} bytes", cost, "µs", split, "split at its separator")


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    telegrams(bench)
    lines(bench, arguments.line_s)
    polling(bench, arguments.polls, arguments.peer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=600, help="polls for the CPU figures, at 5 Hz (600)")
    parser.add_argument("--line-s", type=float, default=20.0, help="seconds of each measurement of a serial line (20)")
    parser.add_argument("--peer", type=Path, help="the modbus4mqtt of a virtual environment, to compare with")
    main(run, parser)
