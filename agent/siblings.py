"""The undirected relation between siblings: one growing counter an edge, odd joined, even parted, the greater wins."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from agent.address import to_address
from agent.events import Bridge
from agent.life import STALE_S
from agent.wire import WireError, is_id

GRACE_S = 15.0  # a parted link stays up this long, so that the other end hears of it
ACKED_S = 1.0  # and this long once the other end has said so itself
PROBE_S = 600.0  # between looks whether a link that stays down has anybody at its other end
REDIAL_S = 60.0  # a sibling that dialled us and is offline this long may have lost its memory: then we dial
MAX_SIBLINGS = 64
MAX_EDGES = 256  # in one info record, parted ones included
MAX_COUNTER = 2**52  # nobody counts that far; leaves room to join and leave for ever after


@dataclass(slots=True)
class Edge:
    """One sibling. `dial`: we keep the bridge; `address`: where its broker listens, as typed or as last learnt.

    `moved`: what it says of its address itself, where we dial another: tried once that one has been silent for long.
    """

    counter: int
    dial: bool = False
    address: str | None = None
    parted_s: float | None = None  # monotonic; None when the grace is over
    heard_s: float | None = None
    moved: str | None = None
    probed_s: float | None = None

    @property
    def joined(self) -> bool:
        return self.counter % 2 == 1


class Kept(msgspec.Struct, frozen=True):
    """One edge as the store has it."""

    counter: int
    dial: bool = False
    address: str | None = None


@dataclass(slots=True)
class Siblings:
    """This node's edges, and what follows from them."""

    me: str
    edges: dict[str, Edge] = field(default_factory=dict)

    def dump(self) -> bytes:
        return msgspec.json.encode({id_: Kept(e.counter, e.dial, e.address) for id_, e in sorted(self.edges.items())})

    def load(self, data: bytes, now: float) -> None:
        """Take in what `dump` gave. Raises WireError when it is not that.

        A parted link that was still up when we stopped gets its grace again: the other end may not have heard of it.
        """
        try:
            kept = msgspec.json.decode(data, type=dict[str, Kept])
        except msgspec.DecodeError as error:
            raise WireError(f"siblings: {error}") from error
        sound = {id_: k for id_, k in kept.items() if is_id(id_) and 0 <= k.counter <= MAX_COUNTER}
        self.edges = {id_: Edge(k.counter, k.dial, k.address) for id_, k in sound.items()}
        for edge in self.edges.values():
            if edge.dial and not edge.joined:
                edge.parted_s = now

    def joined(self) -> list[str]:
        return sorted(id_ for id_, edge in self.edges.items() if edge.joined)

    def counters(self) -> dict[str, int]:
        return {id_: edge.counter for id_, edge in sorted(self.edges.items())}

    def dials(self) -> list[str]:
        return sorted(id_ for id_, edge in self.edges.items() if edge.joined and edge.dial)

    def links(self) -> tuple[Bridge, ...]:
        """The bridges that this node's broker must keep now."""
        kept = [(id_, e) for id_, e in sorted(self.edges.items()) if e.dial and e.address and (e.joined or e.parted_s is not None)]
        found = [(id_, to_address(e.address)) for id_, e in kept if e.address]
        return tuple(Bridge(id_, address.host, address.port) for id_, address in found if address)

    def join(self, id_: str, address: str, now: float) -> bool:
        """We join the node at this address: True when that changed anything."""
        edge = self.edges.get(id_)
        if self._full(edge):
            raise WireError(f"more than {MAX_SIBLINGS} siblings; leave one first")
        if edge is None:
            edge = self._new(id_)
        before = (edge.counter, edge.dial, edge.address)
        if not edge.joined:
            edge.counter += 1
            edge.parted_s, edge.heard_s, edge.dial = None, now, True
        elif edge.heard_s is None or now - edge.heard_s > STALE_S:
            edge.dial = True  # it should have dialled us, and somebody is asking for the link now
        edge.address = address
        return before != (edge.counter, edge.dial, edge.address)

    def part(self, id_: str, now: float) -> bool:
        edge = self.edges.get(id_)
        if edge is None or not edge.joined:
            return False
        edge.counter += 1
        edge.parted_s = now
        return True

    def told(self, id_: str, counters: dict[str, int], dials: list[str], address: str | None, now: float) -> bool:
        """A node's own info says this of its edges: True when ours changed by it.

        The greater counter wins at both ends. Where both keep a bridge, the smaller id's stays.
        """
        theirs = counters.get(self.me, 0)
        edge = self.edges.get(id_)
        if theirs > MAX_COUNTER or (theirs % 2 == 1 and self._full(edge)):
            return False
        if edge is None:
            if theirs % 2 == 0:
                return False
            edge = self._new(id_)
        changed = theirs > edge.counter
        if changed:
            edge.counter = theirs
            edge.parted_s = None if edge.joined else now
            edge.heard_s = now
        if not edge.joined and edge.parted_s is not None and theirs == edge.counter:
            edge.parted_s = min(edge.parted_s, now - GRACE_S + ACKED_S)
        if address and address != edge.address and not edge.dial:
            edge.address, changed = address, True
        edge.moved = address if edge.dial and to_address(address or "") else None
        if edge.joined and edge.dial and self.me in dials and id_ < self.me and theirs % 2 == 1:
            edge.dial, changed = False, True
        return changed

    def probes(self, down: Callable[[str], bool], now: float) -> list[str]:
        """Addresses of links of ours that have been down for long: does a broker answer there all the same?"""
        found = []
        for id_, edge in self.edges.items():
            silent = edge.heard_s is not None and now - edge.heard_s > REDIAL_S
            due = edge.probed_s is None or now - edge.probed_s > PROBE_S
            if edge.joined and edge.dial and edge.address and silent and due and down(id_):
                edge.probed_s = now
                found.append(edge.address)
        return found

    def _full(self, edge: Edge | None) -> bool:
        """Is there no room to join where this edge is now?"""
        return (edge is None or not edge.joined) and len(self.joined()) >= MAX_SIBLINGS

    def _new(self, id_: str) -> Edge:
        """A new edge; once a record can hold no more, the one that is known longest and parted is given up for it."""
        if len(self.edges) >= MAX_EDGES:
            del self.edges[next(old for old, edge in self.edges.items() if not edge.joined)]
        edge = self.edges[id_] = Edge(0)
        return edge

    def heard(self, id_: str, now: float) -> None:
        """Something arrived in this sibling's inbox."""
        edge = self.edges.get(id_)
        if edge is not None:
            edge.heard_s = now

    def silent_s(self, id_: str, now: float) -> float | None:
        edge = self.edges.get(id_)
        return None if edge is None or edge.heard_s is None else now - edge.heard_s

    def tick(self, now: float) -> bool:
        """Let parted links go after their grace, dial siblings that have fallen silent, the moved ones where they are now.

        True when the links changed.
        """
        changed = False
        for edge in self.edges.values():
            if edge.parted_s is not None and now - edge.parted_s > GRACE_S:
                edge.parted_s, edge.dial, changed = None, False, True
            if edge.heard_s is None:
                edge.heard_s = now
            if not edge.joined or not edge.address or now - edge.heard_s <= REDIAL_S:
                continue
            if not edge.dial:
                edge.dial, changed = True, True
            elif edge.moved not in (None, edge.address):
                edge.address, edge.moved, changed = edge.moved, edge.address, True  # the typed one may be right again one day
                edge.heard_s = now
        return changed
