"""What the slack meter does not see of what a node tells: a current transformer of another ratio, a reversed meter, a lie.

The closure of agent/guards.py takes such watts off the sum, but late, and a block that opens under a tenfold load moves the sum by
nine times that block: in simulation one such node among four left 8.0 times the bound unserved, droop without any plan 4.5. So
every node learns of each how much of its *changes* the slack meter sees, and plans with that part.

Source of the rule: Widrow and Hoff 1960, Adaptive switching circuits (least mean squares, normalised). One equation in a window
for all together, so that nobody is blamed for what only changed beside another's lie. Of loads that change all the time a tenfold
one is doubted after some 40 minutes, a reversed one after 60 to 90, a threefold one after 80 to 120; a meter that is 40 s late is
believed, one that is 90 s late is not. One that tells a neighbour's changes on top of its own can have that neighbour doubted
instead: its watts are in the closure then, as those of a silent node are.
"""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from math import inf

WINDOW_S = 120  # means over so long are compared: what records and slow meters lag behind is little beside it
LAGS = 2  # ... and over so many times the known delay of messages more
RATE_PM = 100  # how far one equation goes, thousandths
NOISE_W = 200  # smaller changes of all together teach little
WHOLE = 1_000_000
DOUBT = 600_000  # what must be unseen, of WHOLE, before a node counts with the rest only


@dataclass(slots=True)
class Doubt:
    """What is unseen of each node, in millionths; whole numbers, the same on any machine. Times are monotonic."""

    lag_s: int
    unseen: dict[str, int] = field(default_factory=dict)
    begun_s: float = -inf  # of this window
    steps: int = 0
    slack_w: int = 0  # summed over the steps
    sums: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> watts, steps
    before: tuple[int, dict[str, int]] | None = None  # means of the window before, of those who were there all the time

    def step(self, nets: Mapping[str, int], slack_w: int, known: Container[str], now: float) -> int:
        """`nets`: what each that is heard now supplies (+) or takes (-), W; `slack_w`: what the slack meter sees, + = supplied by
        it; `known`: whose past is kept. Returns how many W more are believed from now on, which is 0 inside a window.
        """
        window_s = WINDOW_S + LAGS * self.lag_s
        if now - self.begun_s > 2 * window_s:
            self.before = None
            self._begin(now)
        self.steps, self.slack_w = self.steps + 1, self.slack_w + slack_w
        for node, net_w in nets.items():
            sum_w, steps = self.sums.get(node, (0, 0))
            self.sums[node] = sum_w + net_w, steps + 1
        if now - self.begun_s < window_s:
            return 0
        was_w = self._left_w(nets)
        means = {node: sum_w // steps for node, (sum_w, steps) in self.sums.items() if steps == self.steps}
        mean_w = self.slack_w // self.steps
        if self.before is not None:
            then_w, thens = self.before
            self._learn(mean_w - then_w, {node: mean - thens[node] for node, mean in means.items() if node in thens})
        self.unseen = {node: part for node, part in self.unseen.items() if part and node in known}
        self.before = mean_w, means
        self._begin(now)
        return self._left_w(nets) - was_w

    def believed(self, heard: Collection[str]) -> dict[str, int]:
        """Who counts less, with how many millionths. Where that were more than half of all, the slack meter is the odd one."""
        less = {node: WHOLE - self.unseen[node] for node in heard if self.unseen.get(node, 0) >= DOUBT}
        return less if 2 * len(less) <= len(heard) else {}

    def _begin(self, now: float) -> None:
        self.begun_s, self.steps, self.slack_w, self.sums = now, 0, 0, {}

    def _learn(self, slack_w: int, changes: Mapping[str, int]) -> None:
        """One equation: the slack meter and all nodes together change by nothing but what it does not see of them."""
        error_w = slack_w + sum(changes.values())
        error_w -= sum(self.unseen.get(node, 0) * change_w for node, change_w in changes.items()) // WHOLE
        power = NOISE_W**2 + sum(change_w**2 for change_w in changes.values()) + error_w**2
        for node, change_w in changes.items():
            moved = self.unseen.get(node, 0) + error_w * change_w * (RATE_PM * WHOLE // 1000) // power
            self.unseen[node] = min(WHOLE, max(0, moved))

    def _left_w(self, nets: Mapping[str, int]) -> int:
        return sum(part_of(nets[node], part) - nets[node] for node, part in self.believed(nets).items())


def part_of(watts: int, part: int) -> int:
    return watts * part // WHOLE
