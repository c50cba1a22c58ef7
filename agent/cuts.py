"""Siblings that flood us: cut off at the broker for a pause that doubles, so that neither the meter nor the others suffer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.bucket import Bucket

BAD_S, BAD_BURST = 20.0, 200.0  # wrong records of one sibling: what an honest one passes on before it cuts its own neighbour
ALL_S, ALL_BURST = 2000.0, 60_000.0  # any records of one sibling: all of 10,000 nodes at once, or each of them every 5 s
PAUSE_S, LONGEST_S = 10.0, 3600.0  # the first is shorter than the others need to call us stale
GOOD_S = 7200.0  # who behaves so long begins anew
DEAD_S = 3.0  # so long after a cut, with all read that had come, nothing can come by that link any more
CLEARED_S = 60.0  # so long what is wrong in the inbox of one that proved innocent is laid to those whom we dial
STILL = 50  # messages after that: somebody else writes into that inbox
MOST = 256  # siblings with an account of their own, as many as an info can name; inboxes beyond that are invented


@dataclass(slots=True)
class Cut:
    """One sibling's account. `until_s` None: it is not cut now; `since_s`: of the last cut; `cleared_s`: it proved innocent."""

    pause_s: float
    since_s: float
    until_s: float | None
    still: int = 0
    cleared_s: float | None = None


@dataclass(slots=True)
class Cuts:
    """Who is cut. None stands for our own tree: what is wrong there came by a link that we dialled, for no one else may write."""

    bad: dict[str | None, Bucket] = field(default_factory=dict)
    all: dict[str | None, Bucket] = field(default_factory=dict)
    siblings: dict[str, Cut] = field(default_factory=dict)
    untold: bool = False  # somebody was revoked since the broker was told last: after an outage there may be thousands

    def cut(self) -> list[str]:
        return sorted(id_ for id_, one in self.siblings.items() if one.until_s is not None)

    def is_cut(self, id_: str | None) -> bool:
        one = self.siblings.get(id_) if id_ is not None else None
        return one is not None and one.until_s is not None

    def any(self, sibling: str, dialled: Sequence[str], now: float) -> str | None:
        """A record came by this sibling: who is to be cut now, if that is more than a network can have to tell."""
        return self._count(self.all, sibling, ALL_S, ALL_BURST, dialled, now)

    def wrong(self, sibling: str | None, dialled: Sequence[str], now: float) -> str | None:
        """Something wrong came by this sibling: who is to be cut for it now, if anybody."""
        one = self.siblings.get(sibling) if sibling is not None else None
        if one is not None and one.cleared_s is not None and now - one.cleared_s < CLEARED_S:
            sibling = None
        return self._count(self.bad, sibling, BAD_S, BAD_BURST, dialled, now)

    def _count(
        self,
        accounts: dict[str | None, Bucket],
        sibling: str | None,
        rate: float,
        burst: float,
        dialled: Sequence[str],
        now: float,
    ) -> str | None:
        # only a broker that we dial can invent inboxes: what lies in too many is laid to those
        account = sibling if sibling in accounts or len(accounts) < MOST else None
        bucket = accounts.get(account)
        if bucket is None:
            bucket = accounts[account] = Bucket(rate, burst, burst, now)
        if bucket.take(now):
            return None
        bucket.level = burst  # the pause is the answer; after it the count begins anew
        return self._cut(account if account is not None else self._suspect(dialled, None), now)

    def after(self, sibling: str, dialled: Sequence[str], idle_s: float, now: float) -> str | None:
        """A message in the inbox of one that is cut. If they go on it is not that one who writes: who is to be cut instead?

        A broker that we dial may write anywhere in ours (FIELD: access lists do not bind it), and so lay it to another.
        """
        one = self.siblings[sibling]
        if idle_s - one.since_s < DEAD_S:
            return None
        one.still += 1
        suspect = self._suspect(dialled, sibling)
        if one.still < STILL or suspect is None:
            return None
        one.until_s, one.pause_s, one.still, one.cleared_s = None, PAUSE_S / 2, 0, now
        return self._cut(suspect, now)

    def _suspect(self, dialled: Sequence[str], but: str | None) -> str | None:
        return next((id_ for id_ in dialled if id_ != but and not self.is_cut(id_)), None)

    def _cut(self, id_: str | None, now: float) -> str | None:
        if id_ is None or self.is_cut(id_):
            return None
        old = self.siblings.get(id_)
        pause_s = PAUSE_S if old is None else min(LONGEST_S, 2 * old.pause_s)
        self.siblings[id_] = Cut(pause_s, now, now + pause_s)
        return id_

    def tick(self, now: float) -> tuple[list[str], list[str]]:
        """Those whose pause is over, and those who have behaved for long since."""
        back = [id_ for id_, one in self.siblings.items() if one.until_s is not None and now >= one.until_s]
        for id_ in back:
            self.siblings[id_].until_s = None
        good = [id_ for id_, one in self.siblings.items() if one.until_s is None and now - one.since_s > GOOD_S + one.pause_s]
        for id_ in good:
            del self.siblings[id_]
        return back, good
