"""The table of records: for every topic the newest one ever heard, byte for byte as its owner made it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from agent import wire
from agent.decode import decode
from agent.wire import Place, Record, WireError

MAX_NODES = 10_000  # 100,000 invented ids must not fill a Pi; each id costs about 1 KB here and as much in the broker
MAX_KINDS = 16  # of one node: four are ours, the rest is room for later versions
OURS = (wire.STATE, wire.INFO, *wire.ENERGY, wire.TARIFF)
MAX_NETWORK = 4_096  # tariff, revocations and removals together
MAX_JUMP = 2**32  # one node's versions grow by a few a second: 136 years at one a second


class Verdict(Enum):
    NEWER = "newer"
    SAME = "same"
    OLDER = "older"


@dataclass(frozen=True, slots=True)
class Held:
    """One record: its bytes as received, their hash, and what they say."""

    place: Place
    payload: bytes
    hash: bytes
    record: Record

    @property
    def order(self) -> tuple[int, bytes]:
        """Greater wins, at every node alike."""
        return self.record.version, self.hash


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@dataclass(slots=True)
class Book:
    """Newest wins, per topic; the owner's bytes are kept and given on verbatim."""

    nodes: dict[str, dict[str, Held]] = field(default_factory=dict)
    _table: str | None = None

    def get(self, owner: str, kind: str) -> Held | None:
        return self.nodes.get(owner, {}).get(kind)

    def all(self) -> Iterator[Held]:
        for kinds in self.nodes.values():
            yield from kinds.values()

    def judge(self, place: Place, payload: bytes) -> tuple[Verdict, Held]:
        """Where these bytes stand against what is held; `Held` is the candidate, or what is held when it is the same.

        Raises WireError when they are no record, or one that nobody could have made by counting.
        """
        held = self.get(place.owner, place.kind)
        if held is not None and held.payload == payload:
            return Verdict.SAME, held
        self._room_for(place)  # first: a flood of invented ids must not cost a decoding each
        new = Held(place, payload, digest(payload), decode(place, payload))
        if held is None:
            if new.record.version - self.newest(place.owner, new.record.version) > MAX_JUMP:
                raise WireError("version jumped more than 2^32")
            return Verdict.NEWER, new
        if new.record.version - held.record.version > MAX_JUMP:
            raise WireError("version jumped more than 2^32")
        return (Verdict.NEWER if new.order > held.order else Verdict.OLDER), new

    def newest(self, owner: str, unknown: int) -> int:
        """The greatest version of a node, whose topics share one count; `unknown` where nothing is held of it."""
        kinds = self.nodes.get(owner, {}) if owner != "network" else {}
        return max((held.record.version for held in kinds.values()), default=unknown)

    def made(self, place: Place, payload: bytes) -> Held:
        """A record that this node makes now. Raises WireError when it is none, never for a version that it had to jump to."""
        return Held(place, payload, digest(payload), decode(place, payload))

    def _room_for(self, place: Place) -> None:
        kinds = self.nodes.get(place.owner)
        if kinds is None:
            if len(self.nodes) >= MAX_NODES:
                raise WireError(f"more than {MAX_NODES} nodes")
        elif place.kind in kinds or place.kind in OURS:
            return  # nobody can keep them out with kinds that mean nothing
        elif len(kinds) >= (MAX_NETWORK if place.owner == "network" else MAX_KINDS):
            raise WireError("too many kinds of record")

    def keep(self, held: Held) -> None:
        """Take a record in. Raises WireError when the table is full."""
        place = held.place
        self._room_for(place)
        kinds = self.nodes.setdefault(place.owner, {})
        kinds[place.kind] = held
        if place.kind != wire.STATE:
            self._table = None

    def drop(self, owner: str, kind: str) -> Held | None:
        """Take a record out, and its owner with its last one."""
        kinds = self.nodes.get(owner, {})
        held = kinds.pop(kind, None)
        if held is not None:
            self._table = None
            if not kinds:
                del self.nodes[owner]
        return held

    def table(self) -> str:
        """A short hash over the slowly changing records held: two nodes that show the same have nothing to tell each other."""
        if self._table is None:
            slow = sorted((h.place.topic.encode(), h.hash) for h in self.all() if h.place.kind != wire.STATE)
            self._table = blake2b(b"".join(topic + b"\0" + hash_ for topic, hash_ in slow), digest_size=6).hexdigest()
        return self._table

    def slow(self) -> Iterator[Held]:
        return (held for held in self.all() if held.place.kind != wire.STATE)
