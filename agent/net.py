"""The network's net, kept by additions: one changed record costs the same among four nodes and among ten thousand."""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Share:
    """One counted node's part: whole watts, and the bytes that stand for its record in the digest."""

    produced_w: int
    consumed_w: int
    mark: bytes

    @property
    def net_w(self) -> int:
        return self.produced_w - self.consumed_w


def mark(node: str, version: int, hash_: bytes) -> bytes:
    """The digest's line for one record; sorts by id, then version, then hash."""
    return node.encode() + b"\0" + version.to_bytes(8, "big") + hash_


@dataclass(slots=True)
class Net:
    """Sums over the counted nodes, and the declared ratings of those that are members but not counted.

    Whole watts add in any order to the same sum, so that every node that counts the same records shows the same bytes.
    """

    produced_w: int = 0
    consumed_w: int = 0
    supply_w: int = 0  # sum of the positive net_w: what those nodes give the others
    demand_w: int = 0  # sum of the negative net_w, as a positive number
    unknown_w: int = 0  # sum of the ratings of members not counted
    shares: dict[str, Share] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    _marks: list[bytes] = field(default_factory=list)

    @property
    def net_w(self) -> int:
        return self.produced_w - self.consumed_w

    @property
    def low_w(self) -> int:
        return self.net_w - self.unknown_w

    @property
    def high_w(self) -> int:
        return self.net_w + self.unknown_w

    @property
    def heard(self) -> int:
        return len(self.shares)

    @property
    def nodes(self) -> int:
        return len(self.shares) + len(self.unknown)

    def count(self, node: str, share: Share) -> None:
        """Let this record be the node's part of the sums."""
        self.drop(node)
        self.shares[node] = share
        insort(self._marks, share.mark)
        self._add(share, 1)

    def widen(self, node: str, rated_w: int) -> None:
        """A member whose watts are not known now: it may be anywhere within its rating."""
        self.drop(node)
        self.unknown[node] = rated_w
        self.unknown_w += rated_w

    def drop(self, node: str) -> None:
        """No member (any more)."""
        share = self.shares.pop(node, None)
        if share is not None:
            self._add(share, -1)
            del self._marks[bisect_left(self._marks, share.mark)]
        self.unknown_w -= self.unknown.pop(node, 0)

    def _add(self, share: Share, times: int) -> None:
        self.produced_w += times * share.produced_w
        self.consumed_w += times * share.consumed_w
        net_w = share.net_w
        if net_w > 0:
            self.supply_w += times * net_w
        else:
            self.demand_w -= times * net_w

    def digest(self, *context: bytes) -> str:
        """Hash over the sorted records counted, and whatever else the net and price are made of.

        Equal digest means equal net and equal price, byte for byte, on any machine.
        """
        whole = blake2b(digest_size=8)
        for part in (*context, *self._marks):
            whole.update(len(part).to_bytes(4, "big"))
            whole.update(part)
        return whole.hexdigest()
