"""Those who mean ill, at the level of bytes: MQTT packets by hand, a broker that keeps no rule, clients that never finish.

MQTT 5.0, OASIS 2019; its chapter 3 has the packets.
"""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, PINGREQ, DISCONNECT = 2, 3, 4, 8, 9, 10, 12, 14


def sized(number: int) -> bytes:
    """A variable byte integer."""
    made = bytearray()
    while True:
        number, low = number >> 7, number & 127
        made.append(low | (128 if number else 0))
        if not number:
            return bytes(made)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + sized(len(body)) + body


def connect(client: str, keepalive_s: int = 60) -> bytes:
    return packet(0x10, text("MQTT") + b"\x05\x02" + struct.pack(">H", keepalive_s) + b"\0" + text(client))


def publish(topic: str | bytes, payload: bytes, retain: bool = True, number: int = 0) -> bytes:
    """QoS 1 with a packet number, else QoS 0."""
    head = 0x30 | (2 if number else 0) | retain
    return packet(head, text(topic) + (struct.pack(">H", number) if number else b"") + b"\0" + payload)


class Gone(ConnectionError):
    """The other end closed, or never let us in."""


class Wire:
    """Packets over one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._data = sock, b""

    def send(self, *packets: bytes) -> None:
        self.sock.sendall(b"".join(packets))

    def read(self) -> tuple[int, int, bytes]:
        """(kind, flags, body) of the next packet. Raises Gone, TimeoutError."""
        head = self._take(1)[0]
        size = shift = 0
        while True:
            byte = self._take(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return head >> 4, head & 15, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            try:
                more = self.sock.recv(65536)
            except ssl.SSLError as error:
                raise Gone(str(error)) from error
            if not more:
                raise Gone("closed")
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken


class Foe:
    """A client at somebody's broker that says what it likes; `tls` is its context, with or without a certificate."""

    def __init__(self, port: int, client: str = "foe", tls: ssl.SSLContext | None = None, wait_s: float = 5.0) -> None:
        """Raises OSError (Gone, ssl.SSLError) when it is not let in."""
        sock = socket.create_connection(("127.0.0.1", port), wait_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = tls.wrap_socket(sock, server_hostname="foe") if tls is not None else sock
            self.wire = Wire(sock)
            self.wire.send(connect(client))
            kind, _, body = self.wire.read()
        except BaseException:
            sock.close()
            raise
        if kind != CONNACK or body[1]:
            self.close()
            raise Gone(f"refused: {body.hex()}")
        self._number = 0

    def write(self, topic: str, payload: bytes, retain: bool = True) -> None:
        """At QoS 0: of QoS 1 a broker takes so many at once, and drops who sends more."""
        self.wire.send(publish(topic, payload, retain))

    def taken(self, topic: str, payload: bytes, retain: bool = True) -> bool:
        """Did the broker say that it took this?"""
        self._number += 1
        self.wire.send(publish(topic, payload, retain, self._number))
        while True:
            kind, _, body = self.wire.read()
            if kind == PUBACK and struct.unpack(">H", body[:2])[0] == self._number:
                return len(body) < 3 or body[2] < 0x80

    def flood(self, packets: Iterable[bytes], rate: float, seconds: float) -> int:
        """These over and over at so many a second; how many were sent."""
        made, sent, began_s = list(packets), 0, time.monotonic()
        self.wire.sock.settimeout(max(seconds, 1.0))
        while (past_s := time.monotonic() - began_s) < seconds:
            due = int(past_s * rate) - sent
            if due > 0:
                try:
                    self.wire.send(*(made[(sent + i) % len(made)] for i in range(min(due, 2000))))
                except OSError:
                    break
                sent += min(due, 2000)
            time.sleep(0.005)
        return sent

    def close(self) -> None:
        with suppress(OSError):
            self.wire.send(b"\xe0\0")
        with suppress(OSError):
            self.wire.sock.close()

    def __enter__(self) -> "Foe":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeBroker:
    """What listens at a sibling's address when that sibling has turned: it takes all in, and pushes what it likes down each link.

    A Mosquitto sends only what was subscribed; this one does not ask.
    """

    def __init__(self, port: int, id_: str, tls: ssl.SSLContext | None = None) -> None:
        self.port, self.id, self._tls = port, id_, tls
        self.links: dict[str, Wire] = {}  # by client id
        self._server = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._listen, args=(sock,), daemon=True).start()

    def _listen(self, sock: socket.socket) -> None:
        client = ""
        try:
            sock.settimeout(30)
            sock = self._tls.wrap_socket(sock, server_side=True) if self._tls is not None else sock
            wire = Wire(sock)
            while True:
                kind, flags, body = wire.read()
                match kind:
                    case 1:  # behind protocol name, version, flags, keepalive and an empty or short list of properties
                        start = 11 + body[10]
                        client = body[start + 2 : start + 2 + struct.unpack(">H", body[start : start + 2])[0]].decode()
                        self.links[client] = wire
                        wire.send(packet(0x20, b"\0\0\0"))
                    case 8:
                        wire.send(packet(0x90, body[:2] + b"\0" + b"\1" * (body.count(b"grid/") or 1)))
                        if b"grid/summary" in body:
                            wire.send(publish("grid/summary", b'{"node":"%b"}' % self.id.encode()))
                    case 10:
                        wire.send(packet(0xB0, body[:2] + b"\0\0"))
                    case 3 if flags & 6:
                        start = 2 + struct.unpack(">H", body[:2])[0]
                        wire.send(packet(0x40, body[start : start + 2]))
                    case 12:
                        wire.send(b"\xd0\0")
                    case 14:
                        return
        except (OSError, IndexError, struct.error):
            pass
        finally:
            self.links.pop(client, None)
            sock.close()

    def push(self, *packets: bytes) -> None:
        """Down every link that a broker keeps to us, as it is."""
        for client, wire in list(self.links.items()):
            if not client.startswith("auto") and client:
                with suppress(OSError):
                    wire.send(*packets)

    def write(self, topic: str, payload: bytes, retain: bool = True) -> None:
        self.push(publish(topic, payload, retain))

    def close(self) -> None:
        self._server.close()
        for wire in list(self.links.values()):
            with suppress(OSError):
                wire.sock.close()


def half_open(port: int, count: int, say: bytes = b"") -> list[socket.socket]:
    """So many connections that begin (with these bytes) and never go on; those that are refused are left out."""
    held: list[socket.socket] = []
    for _ in range(count):
        try:
            sock = socket.create_connection(("127.0.0.1", port), 2.0)
            if say:
                sock.sendall(say)
            held.append(sock)
        except OSError:
            break
    return held


def malformed() -> list[bytes]:
    """Packets that no client may send, each to be the first or the one behind CONNECT."""
    deep = b"\x26" * 2000  # a user property that never ends
    return [
        b"\0",
        b"\xff" * 64,
        b"\x10\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\xff\xff",
        packet(0x10, text("MQTT") + b"\x09\x02\0\x3c\0" + text("x")),
        packet(0x10, text("MQTT") + b"\x05\xff\0\x3c\0" + text("x")),
        packet(0x10, text("HTTP") + b"\x05\x02\0\x3c\0" + text("x")),
        packet(0x10, text("MQTT") + b"\x05\x02\0\x3c" + sized(len(deep)) + deep + text("x")),
        packet(0x30, text("grid/#") + b"\0x"),
        packet(0x30, text(b"grid/\0x") + b"\0x"),
        packet(0x30, text(b"\xff\xfe") + b"\0x"),
        packet(0x36, text("grid/net") + b"\0\1\0x"),
        packet(0x32, text("grid/net") + b"\0\0\0x"),
        packet(0x30, b"\xff\xff" + b"grid/net"),
        packet(0x30, b""),
        packet(0x82, b"\0\1\0" + text("grid/#/x") + b"\1"),
        packet(0x82, b"\0\1\0"),
        packet(0x40, b"\0\7"),
        packet(0x20, b"\0\0\0"),
        packet(0xF0, b"\x18\0"),
        b"GET / HTTP/1.1\r\nHost: grid\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 32,
    ]


def throw(port: int, tls: ssl.SSLContext | None = None, connect_as: Callable[[int], bytes] | None = None) -> int:
    """Every malformed packet on a connection of its own, first alone and then behind a good CONNECT; how many were sent."""
    sent = 0
    for number, data in enumerate(malformed()):
        for first in (b"", connect_as(number) if connect_as else connect(f"thrower{number}")):
            with suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", port), 2)
                with tls.wrap_socket(sock, server_hostname="foe") if tls is not None else sock as one:
                    one.sendall(first + data)
                    sent += 1
    return sent
