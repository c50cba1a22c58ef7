"""What the nodes of this zone want and offer by their newest records, and what they all hang on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from agent import offer
from agent.dispatch import Flex, Mode
from agent.guards import View
from agent.wire import State

EPOCH = 719_163  # ordinal of 1970-01-01
MODES: Mapping[str, Mode] = {"grid": "tied", "generator": "island"}


@dataclass(frozen=True, slots=True)
class Known:
    """What one node's newest record says, as far as it can be planned with."""

    flex: Flex
    net_w: int | None  # without the unit that forms the grid; None: its account is not known
    digest: str
    kind: str | None  # of the feeder that it has
    day: int | None = None  # by its clock; only where the feeder is, since all take it from there


@dataclass(slots=True)
class Zone:
    """All of them by id, and those that have the feeder."""

    known: dict[str, Known] = field(default_factory=dict)
    feeders: dict[str, Known] = field(default_factory=dict)

    def hear(self, node: str, state: State | None) -> None:
        """A node's newest record; None: it is no member of the zone (any more).

        A record that goes beyond the rating that it declares itself, in its watts or in what it offers, is not planned with:
        what is really there the slack meter sees.
        """
        self.known.pop(node, None)
        self.feeders.pop(node, None)
        said = state.flex if state is not None else None
        if state is None or said is None or state.quality == "conflict":
            return
        if not (offer.possible(state) and offer.believed(said, state.rated_w)):
            return
        net_w = state.net_w
        if said.kind == "generator" and net_w is not None:
            net_w -= said.slack_w or 0
        known = Known(offer.offered(said), net_w, said.digest, said.kind, _day(state.at) if said.kind is not None else None)
        self.known[node] = known
        if said.kind is not None:
            self.feeders[node] = known

    @property
    def mode(self) -> Mode | None:
        """Whether it is tied to a grid or an island of its own; None: nobody has a feeder, or they say both."""
        return _mode(self.feeders.values())

    def day(self, unix_s: float) -> int:
        """The UTC day by the clock of the feeder's owner, the same for all; without one by our own, `unix_s`."""
        days = [known.day for _, known in sorted(self.feeders.items()) if known.day is not None]
        return days[0] if days else int(unix_s // 86_400)

    def island(self, counted: Iterable[str]) -> tuple[int, int] | None:
        """W wanted and W that could be made by these nodes, where by their records alone a generator forms the grid."""
        if not self.feeders:
            return None
        knowns = [self.known[node] for node in counted if node in self.known]
        if _mode(knowns) != "island":
            return None
        flexes = [known.flex for known in knowns]
        return sum(sum(flex.load) for flex in flexes), sum(flex.pv_w + flex.dis_w + flex.firm_w for flex in flexes)

    def view(self, ages: Mapping[str, float], heard: int, nodes: int, hz: float | None) -> View:
        """For agent/guards.py, of the nodes in `ages` (s since each was last heard)."""
        there = {node: (self.known[node], age_s) for node, age_s in ages.items()}
        table = {node: (known.flex, age_s) for node, (known, age_s) in there.items()}
        nets = {node: known.net_w for node, (known, _) in there.items() if known.net_w is not None}
        return View(table, nets, {node: known.digest for node, (known, _) in there.items()}, heard, nodes, hz)


def _mode(knowns: Iterable[Known]) -> Mode | None:
    kinds = [*{known.kind for known in knowns if known.kind is not None}]
    return MODES.get(kinds[0]) if len(kinds) == 1 else None


def _day(at: str | None) -> int | None:
    with suppress(ValueError):
        return datetime.fromisoformat(at or "").toordinal() - EPOCH
    return None
