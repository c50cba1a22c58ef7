"""The local door: a Unix socket beside the node's state through which its owner's commands come, one JSON line each."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from agent import runtime
from agent.events import Ask, Asked, Event, Forget, Join, Leave, Members, Revoke, SetLoad, SetTariff, Status, Tell

MAX_LINE = 4096
PATIENCE_S = 5.0  # for a client that connects and says nothing
BREATH_S = 0.1


class Request(msgspec.Struct, frozen=True):
    """`do`: join (argument: address), leave (sibling or nothing), forget (node), status, tariff (JSON of SetTariff)."""

    do: str
    argument: str | None = None


class Unreachable(OSError):
    """No agent answers at this node's socket."""


def _ask(request: Request) -> Ask | None:
    match request:
        case Request("join", str(address)):
            return Join(address)
        case Request("leave", node):
            return Leave(node)
        case Request("forget", str(node)):
            return Forget(node)
        case Request("status"):
            return Status()
        case Request("members"):
            return Members()
        case Request("revoke", str(wanted)):
            return msgspec.json.decode(wanted, type=Revoke)
        case Request("tell", str(cert)):
            return Tell(cert)
        case Request("load", str(wanted)):
            return msgspec.json.decode(wanted, type=SetLoad)
        case Request("tariff", str(changes)):
            return msgspec.json.decode(changes, type=SetTariff)
    return None


class Control:
    """Takes commands from whoever may open the socket (0600: its owner and root) and gives the answers back."""

    def __init__(self, directory: Path, put: Callable[[Event], None]) -> None:
        self._directory, self._put = directory, put
        self._waiting: dict[int, socket.socket] = {}
        self._numbers = itertools.count(1)
        self._server: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Raises OSError."""
        path = self._directory / runtime.SOCKET
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # by way of the directory's descriptor: a socket's own path may have 107 characters at most (man 7 unix)
            server.bind(f"/proc/self/fd/{folder}/{runtime.SOCKET}")
        finally:
            os.close(folder)
        path.chmod(0o600)
        server.listen(8)
        self._server = server
        self._thread = threading.Thread(target=self._serve, args=(server,), name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Whoever still waits for an answer is hung up on."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        with server:
            server.shutdown(socket.SHUT_RDWR)  # wakes accept; a close alone leaves it waiting
            self._thread.join()
        (self._directory / runtime.SOCKET).unlink(missing_ok=True)
        for request in list(self._waiting):
            self._hang_up(request)

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                if self._server is None:
                    return  # closed
                time.sleep(BREATH_S)  # no file descriptor is free; the caller waits
                continue
            client.settimeout(PATIENCE_S)
            threading.Thread(target=self._listen, args=(client,), name="command", daemon=True).start()

    def _listen(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as lines:
                ask = _ask(msgspec.json.decode(lines.readline(MAX_LINE), type=Request))
        except (OSError, ValueError, RecursionError):  # nothing in time; no JSON, no UTF-8, no request; nested too deep
            ask = None
        if ask is None:
            client.close()
            return
        request = next(self._numbers)
        self._waiting[request] = client
        if self._server is None:  # closed meanwhile
            self._hang_up(request)
            return
        self._put(Asked(request, ask))

    def answer(self, request: int, body: bytes) -> None:
        self._hang_up(request, body + b"\n")

    def _hang_up(self, request: int, last: bytes = b"") -> None:
        client = self._waiting.pop(request, None)
        if client is not None:
            with client, suppress(OSError):  # it went away; nobody is left to be told
                client.sendall(last)


def ask(directory: Path, do: str, argument: str | None = None, wait_s: float = 15.0) -> bytes:
    """Put one command to the agent whose state is in this directory and wait for its answer. Raises Unreachable."""
    directory = runtime.found(directory)
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unreachable(f"{directory}: {error.strerror}") from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(wait_s)
            client.connect(f"/proc/self/fd/{folder}/{runtime.SOCKET}")
            client.sendall(msgspec.json.encode(Request(do, argument)) + b"\n")
            with client.makefile("rb") as lines:
                answer = lines.readline()
    except OSError as error:
        raise Unreachable(f"{directory / runtime.SOCKET}: {error.strerror or error}") from error
    finally:
        os.close(folder)
    if not answer:
        raise Unreachable(f"{directory / runtime.SOCKET}: no answer")
    return answer
