"""Random faults, byte by byte, against the ordinary driver: how many wrong values come out. The goal is none.

`python tests/bench_faults.py --injections 100000 --pty 2000`. The many go through pymodbus, the guard, the bus and a meter
over a serial port in memory on which bytes take their time on a virtual clock; the few over a real pseudo-terminal.
Exit code 1 when a value was wrong: not that of the very request it answers.
"""

import argparse
import os
import pty
import select
import sys
import threading
import time
import tty
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pymodbus.client.serial as pymodbus_serial
import pymodbus.transaction.transaction as pymodbus_transaction

import drivers.modbus
from drivers.faults import SerialEar, frame
from drivers.mapfile import parse
from drivers.modbus import Bus, Line
from drivers.reading import MeterError
from drivers.register_meter import Meter
from drivers.registers import plan

UNIT, BAUD = 1, 9600
PLACES = (100, 200, 300)  # three quantities of one size: an answer taken for another's would fit
HEAD = '[meter]\nid = "t"\nvendor = ""\nmodels = []\nphases = 1\ntrust = "C"\nsources = []\n[read]\nfc = 4\ntimeout_ms = 100\n'
MAPS = [parse(HEAD + f'[regs]\nw = {{ at = {place}, type = "i32" }}\n', "t.toml") for place in PLACES]


def watts(n, address):
    """What the meter shows at its n-th request: another number for each n and place, never 0."""
    return 1 + (n * 2_654_435_761 + address * 40_503) % (2**31 - 1)


def flip(random, data, bits):
    number = int.from_bytes(data, "big")
    for bit in random.sample(range(8 * len(data)), bits):
        number ^= 1 << bit
    return number.to_bytes(len(data), "big")


def burst(random, data):
    start, width = random.randrange(8 * len(data) - 16), random.randint(1, 16)
    number = int.from_bytes(data, "big") ^ (random.getrandbits(width) | 1 | 1 << width - 1) << start
    return number.to_bytes(len(data), "big")


def cut(random, data):
    at = random.randrange(len(data))
    return data[:at] + data[at + 1 :]


def grown(random, data):
    at = random.randrange(len(data))
    return data[:at] + random.randbytes(1) + data[at:]


def pieces(random, data):
    at, after = random.randrange(1, len(data)), random.uniform(0.001, 0.05)
    return [(0.0, data[:at]), (after, data[at:])]


# fault -> what comes for a request: (random, request, right answer, timeout) -> [(seconds later, bytes), ...]
FAULTS = {
    "none": lambda r, q, a, t: [(0.0, a)],
    "late, within the drain": lambda r, q, a, t: [(t + r.uniform(-0.01, 0.08), a)],
    "late, by up to 2 s": lambda r, q, a, t: [(t + r.uniform(0.0, 2.0), a)],
    "silence": lambda r, q, a, t: [],
    "short": lambda r, q, a, t: [(0.0, a[: r.randrange(1, len(a))])],
    "in two pieces": lambda r, q, a, t: pieces(r, a),
    "wrong unit": lambda r, q, a, t: [(0.0, frame(r.randint(2, 247), a[1:-2]))],
    "wrong function": lambda r, q, a, t: [(0.0, frame(UNIT, bytes([r.choice((1, 2, 3, 5, 6, 16))]) + a[2:-2]))],
    "fewer registers": lambda r, q, a, t: [(0.0, frame(UNIT, bytes([4, 2]) + a[3:5]))],
    "more registers": lambda r, q, a, t: [(0.0, frame(UNIT, bytes([4, 6]) + a[3:-2] + r.randbytes(2)))],
    "noise before": lambda r, q, a, t: [(0.0, r.randbytes(r.randint(1, 30)) + a)],
    "a false beginning before": lambda r, q, a, t: [(0.0, a[: r.randint(1, 4)] + a)],
    "noise behind": lambda r, q, a, t: [(0.0, a + r.randbytes(r.randint(1, 30)))],
    "noise only": lambda r, q, a, t: [(0.0, r.randbytes(r.randint(1, 60)))],
    "echo": lambda r, q, a, t: [(0.0, q), (r.uniform(0.0, 0.05), a)],
    "echo in one piece": lambda r, q, a, t: [(0.0, q + a)],
    "another's answer before": lambda r, q, a, t: [(0.0, frame(r.randint(2, 247), a[1:3] + r.randbytes(4)) + a)],
    "sent twice": lambda r, q, a, t: [(0.0, a + a)],
    "one bit": lambda r, q, a, t: [(0.0, flip(r, a, 1))],
    "two or three bits": lambda r, q, a, t: [(0.0, flip(r, a, r.choice((2, 3))))],
    "many bits": lambda r, q, a, t: [(0.0, flip(r, a, r.randint(4, 30)))],
    "a burst of up to 16 bits": lambda r, q, a, t: [(0.0, burst(r, a))],
    "a byte lost": lambda r, q, a, t: [(0.0, cut(r, a))],
    "a byte too many": lambda r, q, a, t: [(0.0, grown(r, a))],
    "exception 1 to 11": lambda r, q, a, t: [(0.0, frame(UNIT, bytes([0x84, r.randint(1, 11)])))],
    "exception of another function": lambda r, q, a, t: [(0.0, frame(UNIT, bytes([0x83, r.randint(1, 11)])))],
}


class Script:
    """The meter: each request meets the next fault, and is remembered by its number."""

    def __init__(self, seed, timeout_s, without):
        self.random, self.timeout_s, self.n, self.fault, self.ear = Random(seed), timeout_s, 0, "none", SerialEar()
        self.faults = [fault for fault in FAULTS if fault not in without]
        self.injected, self.said = Counter(), {}  # said: value -> the fault that its answer met

    def hear(self, data):
        sent = []
        for request in self.ear.feed(data):
            self.n += 1
            self.fault = self.random.choice(self.faults)
            self.injected[self.fault] += 1
            address = int.from_bytes(request.pdu[1:3], "big")
            value = watts(self.n, address)
            self.said[value] = self.fault
            right = frame(UNIT, bytes([4, 4]) + value.to_bytes(4, "big"))
            sent += FAULTS[self.fault](self.random, frame(UNIT, request.pdu), right, self.timeout_s)
        return sent


class VirtualPort:
    """A serial port as pymodbus uses one: every byte takes its time on the wire, and waiting moves a virtual clock."""

    def __init__(self, script):
        self.script, self.now, self.coming, self.free = script, 1000.0, [], 0.0
        self.inter_byte_timeout, self.timeout, self.is_open = 0.0, script.timeout_s, True

    def sleep(self, seconds):
        self.now += max(seconds, 1e-4)

    def clock(self):
        return self.now

    def next_second(self):
        self.now = self.now // 1 + 1.0
        return self.now

    def write(self, data):
        self.now += 10 * len(data) / BAUD  # what waits for its answer has been sent by then
        for delay, answer in self.script.hear(data):
            at = self.now + max(0.0, delay)
            self.coming += [(at + 10 * (i + 1) / BAUD, byte) for i, byte in enumerate(answer)]
        self.coming.sort(key=lambda entry: entry[0])
        return len(data)

    @property
    def in_waiting(self):
        return sum(at <= self.now for at, _ in self.coming)

    def read(self, size):
        end = self.now + self.timeout
        while self.in_waiting < size and self.now < end:
            self.now += 0.001
        taken = min(size, self.in_waiting)
        data, self.coming = bytes(byte for _, byte in self.coming[:taken]), self.coming[taken:]
        return data

    def close(self):
        pass


class RealPort:
    """The same meter in a thread at the other end of a pseudo-terminal."""

    def __init__(self, script):
        self.script, (self.master, slave) = script, pty.openpty()
        tty.setraw(self.master)
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        due = []
        while True:
            wait = max(0.0, min(due)[0] - time.monotonic()) if due else None
            if select.select([self.master], [], [], wait)[0]:
                due += [(time.monotonic() + delay, data) for delay, data in self.script.hear(os.read(self.master, 1024))]
            for entry in sorted(entry for entry in due if entry[0] <= time.monotonic()):
                due.remove(entry)
                os.write(self.master, entry[1])


def run(script, port, injections, pause):
    """{fault: [injected, good values, wrong values]}; `pause` waits for the next poll and gives its time."""
    bus = Bus(Line(None, None, port, BAUD, "8N1"), script.timeout_s)
    meters = [Meter(bus, map_, UNIT) for map_ in MAPS]
    bus.timeout_s = script.timeout_s
    bus.open()
    good, wrong, order = Counter(), Counter(), Random(2)
    while script.n - script.injected["none"] < injections:
        place = order.randrange(3)
        try:
            value = meters[place].read_all(pause()).values["w"]
        except MeterError:
            continue
        if value == watts(script.n, PLACES[place]):
            good[script.fault] += 1
        else:  # booked on the fault that the answer met, which may be an earlier one; or on this one when nobody ever said it
            wrong[script.said.get(value, script.fault)] += 1
    bus.close()
    return {fault: [script.injected[fault], good[fault], wrong[fault]] for fault in FAULTS if script.injected[fault]}


def table(title, rows, seconds):
    wide = max(map(len, rows))
    print(f"{title}, {seconds:.0f} s")
    print(f"{'fault':{wide}}  injections  good readings  wrong values")
    for fault, (injected, good, wrong) in rows.items():
        print(f"{fault:{wide}}  {injected:10}  {good:13}  {wrong:12}")
    faulty = [row for fault, row in rows.items() if fault != "none"]
    total = [sum(row[i] for row in faulty) for i in range(3)]
    print(f"{'all faults':{wide}}  {total[0]:10}  {total[1]:13}  {total[2]:12}\n", flush=True)
    return sum(row[2] for row in rows.values())


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--injections", type=int, default=100_000)
    asked.add_argument("--pty", type=int, default=1_000)
    asked.add_argument("--seed", type=int, default=1)
    options = asked.parse_args()
    assert all(len(plan(map_, "all")) == 1 for map_ in MAPS)
    wrong = 0
    if options.pty:
        # as fast as it goes, each read at a far later `now` so that there is no back-off: nobody could wait for the other pace
        script, began, far = Script(options.seed, 0.1, {"late, by up to 2 s"}), time.monotonic(), count(1000, 1000)
        rows = run(script, RealPort(script).path, options.pty, lambda: float(next(far)))
        wrong += table("over a real pseudo-terminal, back to back", rows, time.monotonic() - began)
    script, began = Script(options.seed, 0.1, set()), time.monotonic()
    port = VirtualPort(script)
    virtual = SimpleNamespace(time=port.clock, monotonic=port.clock, sleep=port.sleep)
    pymodbus_serial.time = drivers.modbus.time = virtual
    pymodbus_transaction.monotonic = port.clock
    pymodbus_serial.serial.serial_for_url = lambda *_, **__: port
    rows = run(script, "virtual", options.injections, port.next_second)
    wrong += table("in memory, a poll a second like the agent's", rows, time.monotonic() - began)
    print(f"wrong values: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
