"""Find out who listens at an address: the joiner needs the id of the node there before it can link to it."""

import threading
from collections.abc import Callable

import msgspec

from agent import bus, wire
from agent.address import Address, to_address
from agent.events import Dial, Dialled, Event

WAIT_S = 8.0  # a Pi that has just started needs a few seconds to its first summary


class Named(msgspec.Struct, frozen=True):
    node: str


def call(dial: Dial, own_port: int) -> Dialled:
    """Dial once; never raises for what is at the other end."""

    def failed(why: str) -> Dialled:
        return Dialled(dial.address, None, why, None, dial.request)

    where = to_address(dial.address)
    if where is None:
        return failed("that is no HOST:PORT")
    try:
        payload, local = bus.fetch(where.host, where.port, wire.View("", shared=False).summary, WAIT_S)
    except OSError as error:
        return failed(f"no broker answers there ({error.strerror or error}). Is that node on, and its [mqtt] bind open to others?")
    if payload is None:
        return failed("a broker answers there, but no node shows its grid/summary. Is its agent running?")
    try:
        node = msgspec.json.decode(payload, type=Named).node
    except (ValueError, RecursionError):  # not JSON, not UTF-8, not our form; or nested too deep
        return failed("what stands there under grid/summary is not ours")
    if not wire.is_id(node):
        return failed("the node there has no valid id")
    return Dialled(dial.address, node, "", str(Address(local, own_port)) if local else None, dial.request)


def start(dial: Dial, own_port: int, put: Callable[[Event], None]) -> None:
    """Dial on a thread of its own; the outcome arrives as an event."""
    threading.Thread(target=lambda: put(call(dial, own_port)), name="dial", daemon=True).start()
