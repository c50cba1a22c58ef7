"""The benchmarks' desk: one loop for all their sockets, with Modbus meters and MQTT connections that cost next to nothing."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

HOST = "127.0.0.1"


class Desk:
    """Serves every socket of a benchmark in one thread, so that no hand-over between threads is timed."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def add(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, ready)

    def drop(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def at(self, due_s: float, act: Callable[[], None]) -> None:
        """Once, at this monotonic time or soon after it."""
        self._timers.append((due_s, act))

    def run(self, for_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Serve until the condition holds (True) or the time is over (False)."""
        end = time.monotonic() + for_s
        while not until():
            now = time.monotonic()
            if now >= end:
                return False
            due = [timer for timer in self._timers if timer[0] <= now]
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for _, act in due:
                act()
            wake_s = min([end, now + 0.02, *(due_s for due_s, _ in self._timers)])
            for key, _ in self._selector.select(max(0.0, wake_s - time.monotonic())):
                if key.fileobj in self._selector.get_map():
                    key.data()
        return True

    def work(self, job: Callable[[], Any], for_s: float) -> Any:
        """Do what blocks on a thread of its own, and serve meanwhile."""
        outcome: Future[Any] = Future()

        def do() -> None:
            try:
                outcome.set_result(job())
            except OSError as error:
                outcome.set_exception(error)

        threading.Thread(target=do, daemon=True).start()
        self.run(for_s, outcome.done)
        return outcome.result(0)


class Meter:
    """An SDM630 on Modbus TCP that shows the watts it is told to. `asked` is called before each answer that holds them."""

    def __init__(self, desk: Desk, watts: int = 0) -> None:
        self.watts, self.polls, self.sent_s = watts, 0, 0.0
        self.asked: Callable[[], None] = lambda: None
        self._desk, self._listener = desk, socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        desk.add(self._listener, self._accept)

    def _accept(self) -> None:
        sock = self._listener.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._desk.add(sock, lambda: self._answer(sock))

    def _answer(self, sock: socket.socket) -> None:
        try:
            request = sock.recv(4096)
        except OSError:
            request = b""
        if len(request) != 12:  # one request in flight at a time, as Modbus clients do; anything else is the end
            self._desk.drop(sock)
            return
        transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", request)
        if has_watts := address <= 0x34 < address + count:
            self.asked()
            self.polls += 1
        registers = struct.pack(">48f", *self._floats())[2 * address : 2 * (address + count)]
        if has_watts:
            self.sent_s = time.monotonic()
        sock.sendall(struct.pack(">HHHBBB", transaction, 0, 3 + len(registers), unit, function, len(registers)) + registers)

    def _floats(self) -> list[float]:
        floats = [0.0] * 48
        floats[0:3] = [230.0] * 3
        floats[0x0C // 2] = floats[0x34 // 2] = float(self.watts)
        floats[0x46 // 2] = 50.0
        return floats


class Client:
    """A bare MQTT 3.1.1 connection that comes back by itself: a fraction of a client library's cost, so it disturbs less."""

    def __init__(
        self,
        desk: Desk,
        port: int,
        topics: Sequence[str] = (),
        heard: Callable[[str, bytes], None] = lambda t, p: None,
        qos: int = 1,
    ) -> None:
        self.unacked, self.ready, self._sent = 0, False, 0
        self._desk, self._port, self._topics, self._heard, self._qos = desk, port, topics, heard, qos
        self._open()
        if not desk.run(10, lambda: self.ready):
            raise OSError(f"no broker takes us on port {port}")

    def _open(self) -> None:
        self.ready, self._buffer = False, bytearray()
        try:
            self._sock = socket.create_connection((HOST, self._port), timeout=10)
        except OSError:
            self._desk.at(time.monotonic() + 0.02, self._open)
            return
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._desk.add(self._sock, self._receive)
        self._send(0x10, _text("MQTT") + bytes([4, 2, 0, 0]) + _text(""))
        if self._topics:
            self._send(0x82, b"\0\1" + b"".join(_text(topic) + bytes([self._qos]) for topic in self._topics))

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = True) -> None:
        self._sent = self._sent % 65535 + 1
        number = struct.pack(">H", self._sent) if qos else b""
        self.unacked += qos
        self._send(0x30 | qos << 1 | retain, _text(topic) + number + payload)

    def close(self) -> None:
        self._desk.drop(self._sock)

    def _send(self, kind: int, body: bytes) -> None:
        left, size = len(body), bytearray()
        while left or not size:
            left, low = left >> 7, left & 0x7F
            size.append(low | 0x80 if left else low)
        self._sock.sendall(bytes([kind]) + size + body)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._desk.drop(self._sock)
            self._open()
            return
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 2:
            size, at = buffer[1] & 0x7F, 2
            while buffer[at - 1] & 0x80 and at < len(buffer):
                size |= (buffer[at] & 0x7F) << 7 * (at - 1)
                at += 1
            if buffer[at - 1] & 0x80 or len(buffer) < at + size:
                return
            kind, body = buffer[0], bytes(buffer[at : at + size])
            del buffer[: at + size]
            self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        if kind >> 4 == 3:
            start = 2 + int.from_bytes(body[:2], "big")
            skip = 2 if kind & 0x06 else 0
            if skip:
                self._sock.sendall(b"\x40\x02" + body[start : start + 2])
            self._heard(body[2:start].decode(), body[start + skip :])
        elif kind == 0x40:
            self.unacked -= 1
        elif kind == (0x90 if self._topics else 0x20):
            self.ready = True


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()
