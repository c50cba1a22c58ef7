"""When the common plan may be applied: the five guards, and the closure of what the slack meter sees beyond the known nodes.

They matter more than the plan: a plan on an empty table sheds a neighbourhood, one on half a table was 15 to 20 times worse than
no communication at all (both measured).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from math import inf

from agent.dispatch import NONE, Flex, Mode, Settings, Share, dispatch
from agent.doubt import Doubt, part_of

WARM_S = 60.0  # after a start, or until everybody known was heard
SLACK_S = 30.0  # the slack meter's record may be so old, besides the delay of messages: 6 heartbeats
BACK_S = 10.0  # it must have been heard so long before the plan is taken up again: two heartbeats
AGREE_HZ = 0.2  # so far below nominal batteries are called upon already: something is missing
CLOSURE_S = 20.0  # time constant of what is not known; records of one moment arrive within some seconds
CLOSURE_PM = 500  # at most this part of what is known, so that a meter wired the wrong way round does not open everything
REVERT_S = 60  # a set-point not renewed lapses, so that a dead node lets go of its inverter


def config_digest(settings: Settings, *context: bytes) -> str:
    """Short hash over the settings of the plan and what else must be alike (tariff, limits, rule version)."""
    whole = blake2b(digest_size=8)
    for part in (*(f"{each.name}={getattr(settings, each.name)}".encode() for each in fields(settings)), *context):
        whole.update(len(part).to_bytes(4, "big"))
        whole.update(part)
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class View:
    """What one node knows when it plans."""

    table: Mapping[str, tuple[Flex, float]]  # id -> what it offers, age of the record in s
    nets: Mapping[str, int]  # id -> measured net_w of the same record, without the slack unit itself; where it is known
    digests: Mapping[str, str]  # id -> digest of its configuration; one that is not there counts as other
    heard: int
    nodes: int
    hz: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What this node applies: its line of the plan, or with `share` None what agent/local.py says."""

    share: Share | None
    why: str  # "" while the plan is applied whole; else for people
    others: tuple[str, ...] = ()  # whose configuration differs from ours: they are not planned with
    closure_w: int = 0
    doubted: Mapping[str, int] = field(default_factory=dict)  # id -> with how many millionths of what it tells it is planned


@dataclass(slots=True)
class Closure:
    """Slow, capped average of what is wanted (+) or supplied (-) by nobody known: losses, silent nodes, liars."""

    watts: float = 0.0
    at_s: float | None = None
    known: Mapping[str, int] = field(default_factory=dict)

    def learn(self, known: Mapping[str, int]) -> None:
        """Who is known now, with what each supplies (+) or takes (-)."""
        new_w = sum(w for node, w in known.items() if node not in self.known)
        self.give(new_w - sum(w for node, w in self.known.items() if node not in known))
        self.known = known

    def give(self, new_w: int) -> None:
        """So much is known, or believed, from now on. It is in the average still, and counted twice would have others shed: so
        that gives it up at once, though it never goes beyond 0."""
        if self.watts > 0 > new_w:
            self.watts = max(0.0, self.watts + new_w)
        elif self.watts < 0 < new_w:
            self.watts = min(0.0, self.watts + new_w)

    def step(self, seen_w: int, most_w: int, now: float) -> int:
        """`seen_w`: the slack meter and the known nodes' net together, which would be 0 if nothing else were there."""
        if self.at_s is not None:
            part = min(1.0, (now - self.at_s) / CLOSURE_S)
            self.watts += (min(most_w, max(-most_w, seen_w)) - self.watts) * part
        self.at_s = now
        return round(self.watts)

    def forget(self) -> None:
        self.watts, self.at_s, self.known = 0.0, None, {}


@dataclass(slots=True)
class Guards:
    """Decides at each step between the plan and the local mode. `started_s` is when the node came up."""

    settings: Settings
    nominal_hz: float
    started_s: float
    warm: bool = False
    lost_s: float | None = None  # when the plan was last impossible; None = never since the start
    closure: Closure = field(default_factory=Closure)
    doubt: Doubt = field(init=False)

    def __post_init__(self) -> None:
        self.doubt = Doubt(self.settings.lag_s)

    def step(self, view: View, own: str, day: int, mode: Mode, now: float) -> Verdict:
        """What `own` applies now. `day` is the UTC day number."""
        mine = view.digests.get(own)
        alike = {node: line for node, line in view.table.items() if view.digests.get(node) == mine}
        others = tuple(sorted(view.table.keys() - alike.keys()))
        why = self._impossible(view, own, alike)
        if why:
            return self.lose(why, now, others)
        doubted = self._doubted(view, alike, now)
        self.warm = self.warm or view.heard >= view.nodes
        if not self.warm and now - self.started_s < WARM_S:
            return Verdict(None, f"warming up: {view.heard} of {view.nodes} nodes heard", others, doubted=doubted)
        if self.lost_s is not None and now - self.lost_s < BACK_S:
            return Verdict(None, "the slack meter is heard again; waiting whether it stays", others, doubted=doubted)
        table = {node: (flex, age_s if node in alike else inf) for node, (flex, age_s) in view.table.items()}
        nets = dict(view.nets)
        for node, part in doubted.items():
            flex, age_s = table[node]
            one, two, three, four = (part_of(load_w, part) for load_w in flex.load)
            table[node] = replace(flex, load=(one, two, three, four), pv_w=part_of(flex.pv_w, part)), age_s
            nets[node] = part_of(nets.get(node, 0), part)
        closure_w = self._closure_w(table, nets, now)
        share = dispatch(table, day, mode, self.settings, closure_w)[own]
        self.warm = self.warm or self._short(view, alike, mode)
        if not self.warm and share.open != NONE:
            share = Share(NONE, share.battery_w, share.pv_limit_w, share.hold)
            return Verdict(share, "nobody shed: nodes are missing and the frequency does not agree", others, closure_w, doubted)
        return Verdict(share, "", others, closure_w, doubted)

    def lose(self, why: str, now: float, others: tuple[str, ...] = ()) -> Verdict:
        """There can be no plan now, for this reason; when there can be one again, it must stay so for a while first."""
        self.lost_s = now
        self.closure.forget()
        return Verdict(None, why, others)

    def _impossible(self, view: View, own: str, alike: Mapping[str, tuple[Flex, float]]) -> str:
        """Why there can be no plan, which must never be made on a partial sum; or ""."""
        if own not in view.table:
            return "this node's own record is missing"
        slack = [(age_s, node) for node, (flex, age_s) in view.table.items() if flex.slack_w is not None]
        if not slack:
            return "no slack meter (feeder or grid-forming unit) is heard"
        for age_s, node in sorted(slack):
            if node not in alike:
                return f"{node}, which has the slack meter, has another configuration; make them alike"
            if age_s > SLACK_S + self.settings.lag_s:
                return f"the slack meter of {node} is silent for {age_s:.0f} s"
        return ""

    def _doubted(self, view: View, alike: Mapping[str, tuple[Flex, float]], now: float) -> dict[str, int]:
        """Who counts less than it tells."""
        near = [node for node, (_, age_s) in alike.items() if age_s <= self._reach_s]
        nets = {node: view.nets[node] for node in near if node in view.nets}
        slack_w = sum(flex.slack_w or 0 for flex, _ in alike.values())
        self.closure.give(self.doubt.step(nets, slack_w, view.table, now))
        return self.doubt.believed(near)

    @property
    def _reach_s(self) -> int:
        return self.settings.stale_s + self.settings.lag_s

    def _closure_w(self, table: Mapping[str, tuple[Flex, float]], nets: Mapping[str, int], now: float) -> int:
        known: dict[str, int] = {}
        slack_w = wanted_w = firm_w = 0
        for node, (flex, age_s) in table.items():
            # who follows no plan counts there with load and sunshine, so here too
            known[node] = nets.get(node, 0) if age_s <= self._reach_s else flex.pv_w - sum(flex.load)
            slack_w += flex.slack_w or 0
            wanted_w += sum(flex.load)
            firm_w += flex.firm_w
        self.closure.learn(known)
        seen_w = slack_w + sum(known.values())
        return self.closure.step(seen_w, max(wanted_w, firm_w) * CLOSURE_PM // 1000, now)

    def _short(self, view: View, alike: Mapping[str, tuple[Flex, float]], mode: Mode) -> bool:
        """Whether the wires agree that something is missing: an island's frequency sags, or the slack unit gives all it has."""
        if mode == "island" and view.hz is not None:
            return view.hz < self.nominal_hz - AGREE_HZ
        return any(flex.slack_w is not None and 0 < flex.firm_w <= flex.slack_w for flex, _ in alike.values())


@dataclass(slots=True)
class Reversion:
    """When a battery set-point must be written: at once when it changed by the deadband, and in time before it would lapse.

    Source of the timer: SunSpec models 704 and 711, Rvrt points.
    """

    deadband_w: int
    revert_s: float = REVERT_S
    written_w: int | None = None
    written_s: float = 0.0

    def step(self, battery_w: int, now: float) -> int | None:
        """The watts to write now, together with the timer, or None."""
        if self.written_w is not None:
            near = battery_w == self.written_w or (battery_w != 0 and abs(battery_w - self.written_w) < self.deadband_w)
            if near and now - self.written_s < self.revert_s / 3:  # two more tries before it lapses
                return None
        self.written_w, self.written_s = battery_w, now
        return battery_w

    def failed(self) -> None:
        """The write failed or was read back otherwise: try again at the next step."""
        self.written_w = None
