"""Trust in a closed network: whose signature a record must carry, and what waits until its maker's certificate is known.

A network record carries its maker's certificate itself. What a node says of itself is signed with the key of the certificate
in its newest info, so that whether a record is admitted depends on it, on that info and on the revocations held: on nothing
that came before, and relays settle alike in whatever order they hear.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent import certs
from agent.bucket import Bucket
from agent.certs import Certified
from agent.records import Held, digest
from agent.wire import COMMAND, FORGOTTEN, INFO, Forgotten, Record, Revoked, WireError

ROOMS, WAITING_BYTES = 128, 8 * 1024 * 1024  # of siblings whose records wait, and of all that wait
WAITING = 512  # records of one sibling whose makers are not known yet; after an outage a node's own come together
PACE_S, PACE_BURST = 50.0, 200.0  # admitted records of one maker: a meter read 20 times a second, and all days of an outage


class Seal(Protocol):
    """Signatures and certificates, made and checked outside of the core; `cert` and `certified` take base64 of DER."""

    @property
    def network(self) -> str: ...
    @property
    def cert(self) -> str: ...
    def sign(self, topic: str, body: bytes) -> bytes: ...
    def verify(self, key: bytes, topic: str, payload: bytes) -> bool: ...
    def certified(self, cert: str) -> Certified | None:
        """None: not from this network's authority. The dates are not judged."""


class Known(NamedTuple):
    """The key that a node's records are signed with, and until when (unix seconds)."""

    key: bytes
    to_unix: int


def spelled(key: bytes) -> str:
    """A key as revocations write it."""
    return b2a_base64(key, newline=False).decode()


@dataclass(slots=True)
class Trust:
    """Who is believed. `token` is the secret part of the topics that commands come by."""

    seal: Seal
    token: str
    me: Certified = field(init=False)
    known: dict[str, Known] = field(default_factory=dict)
    revoked: dict[str, frozenset[str]] = field(default_factory=dict)  # keys by the node that had them
    waiting: dict[str | None, dict[str, tuple[str, bytes]]] = field(default_factory=dict)  # by sibling, topic: maker, payload
    waiting_bytes: int = 0
    paces: dict[str, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        me = self.seal.certified(self.seal.cert)
        assert me is not None  # who loaded the seal has seen to that
        self.me = me
        self.known[me.id] = Known(me.key, me.to_unix)

    # our own

    def sign(self, topic: str, body: bytes, with_cert: bool) -> bytes:
        """A record of ours, with our certificate where others shall find it."""
        if with_cert:
            body = body[:-1] + b',"cert":"' + self.seal.cert.encode() + b'"}'
        return self.seal.sign(topic, body)

    def command(self, topic: str) -> str | None:
        """The load that a command's topic names, if its token is ours."""
        token, _, load = topic.removeprefix(COMMAND).partition("/")
        if not topic.startswith(COMMAND):
            return None
        return load if digest(token.encode()) == digest(self.token.encode()) else None  # takes as long for any that is wrong

    # those of others

    def admits(self, held: Held, unix_s: float | None, now: float) -> bool:
        """True: signed as it must be. False: that is not known yet. Raises WireError when it is not, or not any more.

        `unix_s` is None while our clock is not known to be right: then nothing has expired.
        """
        place, record = held.place, held.record
        if record.sig is None:
            raise WireError("not signed")
        if place.owner == "network":
            known = self._signer(place.kind, record)
        elif place.kind == INFO:
            known = self.certificate(record, place.owner)
        elif place.owner in self.known:
            known = self.known[place.owner]
        else:
            return False
        if unix_s is not None and certs.expired(known.to_unix, unix_s):
            raise WireError("its certificate has expired")
        if not self.seal.verify(known.key, place.topic, held.payload):
            raise WireError("wrongly signed")
        maker = place.topic if place.owner == "network" else place.owner  # there are thousands of the first in a large network
        pace = self.paces.get(maker)
        if pace is None:
            pace = self.paces[maker] = Bucket(PACE_S, PACE_BURST, PACE_BURST, now)
        if not pace.take(now):
            raise WireError("more often than anybody needs")
        return True

    def certificate(self, record: Record, id_: str) -> Known:
        """Of the certificate in a record that this node made. Raises WireError."""
        said = self._read(record)
        if said.id != id_:
            raise WireError("another node's certificate")
        return Known(said.key, said.to_unix)

    def _signer(self, kind: str, record: Record) -> Known:
        """Network records are an operator's; that a node is let in again it may say itself."""
        said = self._read(record)
        if said.id != record.by:
            raise WireError("another node's certificate")
        back = isinstance(record, Forgotten) and not record.forgotten and kind == FORGOTTEN + said.id
        if not said.operator and not back:
            raise WireError("not an operator's")
        return Known(said.key, said.to_unix)

    def _read(self, record: Record) -> Certified:
        if record.cert is None:
            raise WireError("no certificate")
        said = self.seal.certified(record.cert)
        if said is None:
            raise WireError("a certificate of another authority")
        if spelled(said.key) in self.revoked.get(said.id, ()):
            raise WireError("a revoked key")
        return said

    def learn(self, held: Held) -> bool:
        """An info was taken: the maker's other records are judged by its key. True when that is another key than before."""
        new, old = self.certificate(held.record, held.place.owner), self.known.get(held.place.owner)
        self.known[held.place.owner] = new
        return old is not None and old.key != new.key

    def revoke(self, id_: str, record: Revoked) -> bool:
        """These keys of this node are believed no more: True when it has shown no other."""
        self.revoked[id_] = frozenset(record.keys)
        known = self.known.get(id_)
        if known is not None and spelled(known.key) in self.revoked[id_]:
            del self.known[id_]
        return id_ not in self.known

    def forget(self, id_: str) -> None:
        """Nothing of this node is held any more."""
        self.known.pop(id_, None)
        self.paces.pop(id_, None)

    # what waits

    def wait(self, sibling: str | None, topic: str, owner: str, payload: bytes) -> bool:
        """Keep a record until its maker's info comes; False when another of that sibling's had to go for it."""
        if sibling not in self.waiting and len(self.waiting) >= ROOMS:
            sibling = None  # a broker that we dial can invent inboxes
        room = self.waiting.setdefault(sibling, {})
        before = room.pop(topic, None)
        room[topic] = owner, payload
        self.waiting_bytes += len(payload) - (len(before[1]) if before is not None else 0)
        fits = before is None
        if len(room) > WAITING:
            self._let_go(room)
            fits = False
        while self.waiting_bytes > WAITING_BYTES:
            self._let_go(max(self.waiting.values(), key=len))
            fits = False
        return fits

    def _let_go(self, room: dict[str, tuple[str, bytes]]) -> None:
        """The oldest of a room."""
        self.waiting_bytes -= len(room.pop(next(iter(room)))[1])

    def release(self, owner: str) -> Iterable[tuple[str, bytes]]:
        """What waited for this node's info, as (topic, payload)."""
        found = [(topic, one[1]) for room in self.waiting.values() for topic, one in room.items() if one[0] == owner]
        for room in self.waiting.values():
            for topic, _ in found:
                gone = room.pop(topic, None)
                self.waiting_bytes -= len(gone[1]) if gone is not None else 0
        return found
