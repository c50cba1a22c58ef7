"""Served: a pretend meter, or several, at a TCP port or at the other end of a pseudo-terminal, until it is told to stop."""

from __future__ import annotations

import os
import pty
import selectors
import socket
import termios
import time
import tty
from collections.abc import Callable
from contextlib import suppress

from drivers.faults import Answers, Request, SerialEar, TcpEar

TALK_S = 1.0
_BAUDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}


class Served:
    """Answers what comes in, in one thread. `stop` may be called from a signal's handler or another thread."""

    def __init__(self, meter: Answers, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives the time that the meter's registers are of."""
        self._meter, self._clock = meter, clock
        self._select = selectors.DefaultSelector()
        self._due: list[tuple[float, int, bytes, bool]] = []  # when, to which descriptor, what, and whether to close it then
        self._peers: dict[int, socket.socket] = {}
        self._talks: list[Callable[[], None]] = []
        self._stopped, self._stop = os.pipe()
        self._select.register(self._stopped, selectors.EVENT_READ, self._end)
        self._last: list[Callable[[], None]] = [lambda: os.close(self._stopped), lambda: os.close(self._stop)]
        self._ended = False

    def on_tcp(self, host: str, port: int) -> int:
        """Listen; gives the port, which is another than 0. Raises OSError."""
        listener = socket.create_server((host, port))

        def accept() -> None:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ear = TcpEar()
            self._peers[peer.fileno()] = peer
            self._select.register(peer, selectors.EVENT_READ, lambda: self._from_peer(peer, ear))

        self._select.register(listener, selectors.EVENT_READ, accept)
        self._last.append(listener.close)
        return int(listener.getsockname()[1])

    def on_pty(self, baud: int) -> str:
        """The path of a new serial port; the meter hears nothing of a reader that has set another baud rate."""
        master, slave = pty.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        ear = SerialEar()

        def hear() -> None:
            data = os.read(master, 1024)
            if _BAUDS.get(termios.tcgetattr(master)[5]) == baud:
                self._answer(master, ear.feed(data))

        self._select.register(master, selectors.EVENT_READ, hear)
        self._last += [
            lambda: os.close(master),
            lambda: os.close(slave),
        ]  # the slave stays open, so that the port outlives its readers
        return os.ttyname(slave)

    def talk_on_pty(self, telegram: Callable[[float], bytes]) -> str:
        """The path of a new serial port on which a telegram comes each second, like from P1, SML or TIC."""
        master, slave = pty.openpty()
        tty.setraw(master)
        tty.setraw(slave)

        def talk() -> None:
            termios.tcflush(slave, termios.TCIFLUSH)  # what nobody read is lost, as on a wire
            data = telegram(self._clock())
            while data:
                data = data[os.write(master, data) :]

        self._talks.append(talk)
        self._last += [lambda: os.close(master), lambda: os.close(slave)]
        return os.ttyname(slave)

    def run(self) -> None:
        """Serve until `stop`; then everything is closed."""
        next_s = time.monotonic()
        while not self._ended:
            dues = [entry[0] for entry in self._due] + [next_s] * bool(self._talks)
            wait_s = max(0.0, min(dues) - time.monotonic()) if dues else None
            for key, _ in self._select.select(wait_s):
                key.data()
            now = time.monotonic()
            if self._talks and now >= next_s and not self._ended:
                next_s = now + TALK_S
                for talk in self._talks:
                    talk()
            for entry in sorted(entry for entry in self._due if entry[0] <= now):
                if entry in self._due:  # its connection may have gone with an earlier one
                    self._due.remove(entry)
                    self._send(*entry[1:])
        self._select.close()
        for close in [*(peer.close for peer in self._peers.values()), *self._last]:
            close()

    def stop(self) -> None:
        os.write(self._stop, b"x")

    def _end(self) -> None:
        self._ended = True

    def _from_peer(self, peer: socket.socket, ear: TcpEar) -> None:
        try:
            data = peer.recv(4096)
            if data:
                self._answer(peer.fileno(), ear.feed(data))
                return
        except (OSError, ValueError):
            pass
        self._hang_up(peer.fileno())

    def _answer(self, fd: int, requests: list[Request]) -> None:
        for request in requests:
            for send in self._meter.answer(request, self._clock()):
                if send.after_s == 0.0:
                    self._send(fd, send.data, send.hang_up)
                else:
                    self._due.append((time.monotonic() + send.after_s, fd, send.data, send.hang_up))

    def _send(self, fd: int, data: bytes, hang_up: bool) -> None:
        with suppress(OSError):
            os.write(fd, data)
        if hang_up:
            self._hang_up(fd)

    def _hang_up(self, fd: int) -> None:
        self._due = [entry for entry in self._due if entry[1] != fd]
        peer = self._peers.pop(fd, None)
        if peer is not None:
            self._select.unregister(peer)
            peer.close()
