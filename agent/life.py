"""Who is alive: judged by this node's monotonic clock and by versions that grow, never by a wall clock or a last will."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

HEARTBEAT_S = 5.0
STALE_S = 3 * HEARTBEAT_S
OFFLINE_S = 60.0
APART_S = 0.5  # two old copies that wander in together after a healing are one growth, not two; births beat every 0.7 s
NEXT = 2  # a live node's next state is the next version, or the one after where an info record came between
SCATTERED = 4  # so many growths are life all the same: records of a busy node get lost, but so many old copies there are not

Availability = Literal["online", "stale", "offline", "conflict"]


@dataclass(slots=True)
class Pulse:
    """What we saw of one node's versions. `first_s` is the growth that its return counts from, None while it is fresh or silent."""

    grew_s: float | None = None
    first_s: float | None = None
    version: int = 0  # of the newest growth
    growths: int = 0  # since its return began
    fresh: bool = False
    proven: bool = False  # has been fresh in this run, or was remembered from an earlier one


@dataclass(slots=True)
class Life:
    """Freshness of every node: two growths in a row within three heartbeats make it fresh,
    three heartbeats without one make it stale.

    In a row: old copies of a dead node that wander in after a healing, each from another island, are of versions far apart.
    """

    pulses: dict[str, Pulse] = field(default_factory=dict)

    def grew(self, node: str, version: int, now: float) -> bool:
        """This node's state version grew just now: True when that makes it fresh."""
        pulse = self.pulses.get(node)
        if pulse is None:
            pulse = self.pulses[node] = Pulse()  # the first record we ever hear is a copy of any age: one growth, like any first
        follows = version - pulse.version <= NEXT
        pulse.grew_s, pulse.version = now, version
        if pulse.fresh:
            return False
        if pulse.first_s is None or now - pulse.first_s > STALE_S:
            pulse.first_s, pulse.growths = now, 1
            return False
        if now - pulse.first_s < APART_S:
            return False
        pulse.growths += 1
        if not follows and pulse.growths < SCATTERED:
            pulse.first_s = now
            return False
        pulse.fresh = pulse.proven = True
        pulse.first_s = None
        return True

    def remember(self, node: str) -> None:
        """A node known from an earlier run: one of us, though not yet heard."""
        self.pulses.setdefault(node, Pulse()).proven = True

    def own(self, node: str, now: float) -> None:
        """Our own record needs no proof of life."""
        pulse = self.pulses.setdefault(node, Pulse())
        pulse.grew_s, pulse.fresh, pulse.proven = now, True, True

    def drop(self, node: str) -> None:
        self.pulses.pop(node, None)

    def expire(self, now: float) -> Iterator[str]:
        """The nodes that this moment makes stale."""
        for node, pulse in self.pulses.items():
            if pulse.fresh and pulse.grew_s is not None and now - pulse.grew_s > STALE_S:
                pulse.fresh = False
                yield node

    def fresh(self, node: str) -> bool:
        pulse = self.pulses.get(node)
        return pulse is not None and pulse.fresh

    def proven(self, node: str) -> bool:
        pulse = self.pulses.get(node)
        return pulse is not None and pulse.proven

    def returning(self, node: str) -> bool:
        """Heard after a silence, or for the first time, but not often enough to be fresh."""
        pulse = self.pulses.get(node)
        return pulse is not None and pulse.first_s is not None

    def age_s(self, node: str, now: float) -> float | None:
        """Seconds since this node's version last grew; None when that was never seen."""
        pulse = self.pulses.get(node)
        return None if pulse is None or pulse.grew_s is None else max(0.0, now - pulse.grew_s)

    def availability(self, node: str, now: float) -> Availability:
        if self.fresh(node):
            return "online"
        age_s = self.age_s(node, now)
        return "stale" if age_s is not None and age_s <= OFFLINE_S else "offline"
