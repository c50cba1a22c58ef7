"""Pretend units that answer as a test wishes, on a serial line and behind a gateway, and meters that read them."""

import os
import pty
import select
import socket
import struct
import threading
import time
import tty
from contextlib import contextmanager, suppress

from drivers.catalog import find
from drivers.modbus import Bus, Line
from drivers.register_meter import Meter
from drivers.registers import encode, plan

SDM120 = find("eastron-sdm120")

TRUE = {"w": 1000, "v_l1": 230.5, "a_l1": 4.3, "va": 1000, "var": 0, "pf": 1.0, "hz": 50.0, "import_wh": 5000, "export_wh": 0}
W, SLOW = plan(SDM120, "fast")[0], plan(SDM120, "slow")
W_TRUE = encode(SDM120.regs["w"], 1000, "big")
TIMEOUT_S = 0.8  # of tests in which something does not come
PATIENCE_S = 2.0  # of tests in which everything comes: a busy machine must not fail them


def crc(data: bytes) -> bytes:
    """Modbus over serial line V1.02, 6.2.2: CRC-16, polynomial 0xA001, low byte first."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register.to_bytes(2, "little")


def image(map_=SDM120, **values):
    """address -> word of a device that holds TRUE, changed by `values`."""
    return {
        reg.address + i: word
        for name, reg in map_.regs.items()
        for i, word in enumerate(encode(reg, {**TRUE, **values}[name], map_.word_order))
    }


def answer(request: bytes, words=None) -> bytes:
    """unit, function, byte count, words: the right answer to a request, without CRC."""
    unit, fc, address, count = struct.unpack(">BBHH", request[:6])
    held = image() if words is None else words
    return bytes([unit, fc, 2 * count]) + b"".join(held.get(address + i, 0).to_bytes(2, "big") for i in range(count))


def framed(pdu: bytes) -> bytes:
    return pdu + crc(pdu)


class Device:
    """A thread at the other end of a pty; script(request, n) gives [(delay_s, bytes), …] for the n-th request, n from 1."""

    def __init__(self, script):
        self.master, self.slave = pty.openpty()
        tty.setraw(self.master)
        tty.setraw(self.slave)
        self.port, self.script, self.requests = os.ttyname(self.slave), script, []
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        data, due = b"", []
        while True:
            wait = max(0, min((at for at, _ in due), default=time.monotonic() + 60) - time.monotonic())
            ready = select.select([self.master, self.stop], [], [], wait)[0]
            if self.stop in ready:
                return
            if self.master in ready:
                data += os.read(self.master, 1024)
            while len(data) >= 8:
                request, data = data[:8], data[8:]
                self.requests.append(request)
                due += [(time.monotonic() + delay, out) for delay, out in self.script(request, len(self.requests))]
            for entry in [entry for entry in due if entry[0] <= time.monotonic()]:
                due.remove(entry)
                os.write(self.master, entry[1])

    def close(self):
        os.write(self.stopped, b"x")
        self.thread.join()
        for fd in (self.master, self.slave, self.stop, self.stopped):
            with suppress(OSError):
                os.close(fd)


@contextmanager
def serial(script, unit=1, map_=SDM120, timeout_s=TIMEOUT_S, **meter):
    """(device, bus, meter) on a pty pair with a short timeout."""
    device = Device(script)
    bus = Bus(Line(None, None, device.port, 9600, "8N1"), timeout_s)
    made = Meter(bus, map_, unit, **meter)
    bus.timeout_s = timeout_s
    bus.open()
    try:
        yield device, bus, made
    finally:
        bus.close()
        bus.close()
        device.close()


def well(request, n):
    return [(0, framed(answer(request)))]


class Gateway:
    """A TCP server in a thread; script(request of 6 bytes, n) gives the raw bytes to send, or None to hang up."""

    def __init__(self, script):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.tcp_port = self.listener.getsockname()[1]
        self.script, self.n, self.connections, self.closing = script, 0, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing:
            peer, _ = self.listener.accept()
            self.connections += 1
            with peer, suppress(OSError):
                while request := peer.recv(12):
                    self.n += 1
                    out = self.script(request, self.n)
                    if out is None:
                        break
                    peer.sendall(out)

    def close(self):
        self.closing = True
        socket.create_connection(("127.0.0.1", self.tcp_port)).close()
        self.thread.join()
        self.listener.close()


def enveloped(request: bytes, pdu: bytes) -> bytes:
    return request[:4] + len(pdu).to_bytes(2, "big") + pdu


@contextmanager
def tcp(script, unit=1, map_=SDM120):
    gateway = Gateway(script)
    bus = Bus(Line("127.0.0.1", gateway.tcp_port, None), TIMEOUT_S)
    meter = Meter(bus, map_, unit)
    bus.timeout_s = TIMEOUT_S
    bus.open()
    try:
        yield gateway, bus, meter
    finally:
        bus.close()
        gateway.close()


def right(request, n=0):
    return enveloped(request, answer(request[6:]))
