"""Find out who listens at an address: the joiner needs the id of the node there before it can link to it."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent import bus, wire
from agent.address import Address, to_address
from agent.events import Dial, Dialled, Event

WAIT_S = 8.0  # a Pi that has just started needs a few seconds to its first summary


class Named(msgspec.Struct, frozen=True):
    node: str


PING = b"\xc0\x00"  # MQTT 5.0, 3.12: before a CONNECT it is an error, and ends what would be a session


class Refused(OSError):
    """Somebody answers, but no node of this network, or not to us."""


def called(trust: Path, host: str, port: int, wait_s: float) -> tuple[str, str]:
    """Who listens there by TLS, by the name in a certificate of our authority; and our own address on the way there.

    Addresses change, so that only the authority and the name count. Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(trust / "ca.pem")
    context.load_cert_chain(trust / "node.pem", trust / "node.key")
    with socket.create_connection((host, port), wait_s) as plain:
        local: str = plain.getsockname()[0]
        try:
            with context.wrap_socket(plain) as line:
                line.sendall(PING)  # with TLS 1.3 only the answer tells whether our own certificate was taken (RFC 8446, 4.4.2)
                line.recv(1)
                cert = line.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            why = f"what answers there is no node of this network, or a clock is wrong: {error.verify_message}"
            raise Refused(why) from error
        except ssl.SSLError as error:
            raise Refused(f"what answers there does not take us for a node of its network ({error.reason})") from error
        except ConnectionResetError as error:
            raise Refused("what answers there hangs up") from error
    names = [str(pair[1]) for part in cert.get("subject", ()) for pair in part if pair[0] == "commonName"]
    return (names[0] if len(names) == 1 else ""), local


def _call_closed(dial: Dial, where: Address, own_port: int, trust: Path) -> Dialled:
    try:
        node, local = called(trust, where.host, where.port, WAIT_S)
    except Refused as error:
        return Dialled(dial.address, None, str(error), None, dial.request)
    except OSError as error:
        said = error.strerror or error
        why = f"no broker answers there by TLS ({said}). Is that node on, and its [mqtt] tls_port open to others?"
        return Dialled(dial.address, None, why, None, dial.request)
    if not wire.is_id(node):
        return Dialled(dial.address, None, "the node there has no valid id", None, dial.request)
    return Dialled(dial.address, node, "", str(Address(local, own_port)), dial.request)


def call(dial: Dial, own_port: int, trust: Path | None = None) -> Dialled:
    """Dial once; never raises for what is at the other end. With `trust`, by TLS with the certificate that lies there."""

    def failed(why: str) -> Dialled:
        return Dialled(dial.address, None, why, None, dial.request)

    where = to_address(dial.address)
    if where is None:
        return failed("that is no HOST:PORT")
    if trust is not None:
        return _call_closed(dial, where, own_port, trust)
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


def start(dial: Dial, own_port: int, put: Callable[[Event], None], trust: Path | None = None) -> None:
    """Dial on a thread of its own; the outcome arrives as an event."""
    threading.Thread(target=lambda: put(call(dial, own_port, trust)), name="dial", daemon=True).start()
