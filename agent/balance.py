"""Balance: the plan that all make of what all offer, and this node's own line of it on its relays and its battery."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import loads, offer
from agent.dispatch import Flex, Mode
from agent.events import PointSet
from agent.follow import Look
from agent.guards import Guards, Verdict, config_digest
from agent.local import Applied, Frequency, Local
from agent.steer import Steer
from agent.wire import State
from agent.zone import Zone
from drivers.reading import Reading

if TYPE_CHECKING:
    from agent.node import Node
    from agent.own import Settings

RULE = b"plan/1"  # changes with the arithmetic of agent/dispatch.py
LOOK_S = 1.0  # between two plans: records come about once a second
SETTLE_S = 1.5  # after a switch the meters still show, in part, what was before
HELD_S = 30.0  # but no base is older than this
STEP_PM = 200  # of the battery's power: a change of its set-point beyond it tears its meter's reading and the others' apart
HERTZ_S = 2.0  # a frequency older than this is none: two readings of an ordinary meter, ten of one that is read for it
GONE_S = 600.0  # silent for longer: what it wants now nobody knows, the slack meter sees it
CALM_S = 20.0  # no plan for so long is worth an alert; after a restart or a healing the records come sooner


@dataclass(slots=True)
class Balance:
    """This node's part in balancing; times are monotonic."""

    settings: Settings
    zone: Zone = field(default_factory=Zone)
    guards: Guards = field(init=False)
    local: Local = field(init=False)
    steer: Steer | None = None
    digest: str = ""
    mode: Mode = "tied"
    verdict: Verdict = field(default_factory=lambda: Verdict(None, "not looked yet"))
    applied: Applied | None = None
    load: tuple[int, int, int, int] = (0, 0, 0, 0)  # our own base
    based_s: float | None = None  # when it was measured
    settles_s: float = 0.0  # until then it stays as it was
    said: Flex | None = None  # our own offer, as last told
    looked_s: float | None = None
    hz: float | None = None
    hz_s: float = 0.0
    began: bool = False  # there was a plan since the start
    off_s: float | None = None  # since when there is none
    off_why: str = ""

    def __post_init__(self) -> None:
        settings, battery = self.settings, self.settings.battery
        self.guards = Guards(settings.rules, settings.nominal_hz, 0.0)
        self.local = Local(settings.id, Frequency.of(settings.nominal_hz), droop=battery is not None and not battery.droop)
        if battery is not None and battery.written:
            every_s = [meter.every_s for meter in settings.meters if meter.name == battery.meter]
            self.steer = Steer(battery, max(every_s, default=1.0))
        self.digest = config_digest(settings.rules, RULE, str(settings.nominal_hz).encode())

    @property
    def acts(self) -> bool:
        """Whether there is anything here that a plan, or the frequency, could move."""
        return bool(self.settings.loads) or self.steer is not None

    @property
    def offers(self) -> bool:
        """Whether our record tells what we offer: if there is anything, or somebody has a feeder and plans with our load."""
        settings = self.settings
        return bool(settings.loads or settings.battery or settings.feeder or self.zone.feeders)

    def settle(self, now: float) -> None:
        """Something was switched: until the meters have seen it, our base is the one before."""
        self.settles_s = now + SETTLE_S + max((meter.every_s for meter in self.settings.meters), default=0.0)

    def hertz(self, now: float) -> float | None:
        """The frequency, if it is known now."""
        return self.hz if now - self.hz_s <= HERTZ_S else None


def start(node: Node, now: float) -> None:
    node.balance.guards.started_s = now


# what this node says


def look(node: Node, now: float) -> Flex:
    """Our own offer, of what is measured now."""
    mine = node.balance
    if mine.based_s is None or now >= mine.settles_s or now - mine.based_s > HELD_S:
        mine.load, mine.based_s = offer.loads(node.own, node.switches, now), now
    applied_w, trusted = (mine.steer.applied_w, mine.steer.trusted) if mine.steer is not None else (0, False)
    return offer.flex(node.own, mine.load, applied_w, trusted)


def changed(node: Node, now: float) -> bool:
    """Whether our offer moved so far that the others should know before the next heartbeat."""
    mine = node.balance
    if not mine.offers:
        return False
    return mine.said is None or offer.apart(look(node, now), mine.said, node.settings.deadband_w)


def told(node: Node, now: float) -> dict[str, Any] | None:
    """Our record's `flex`; counts as said."""
    mine = node.balance
    if not mine.offers:
        return None
    mine.said = look(node, now)
    return offer.keys(mine.said, node.settings.feeder, mine.digest)


def measured(node: Node, name: str, reading: Reading, now: float) -> None:
    """A meter was read: it may be a load's own, or tell the frequency."""
    mine, load = node.balance, node.settings.load_meters.get(name)
    if load in node.switches.switches and reading.quality == "good" and "w" in reading.values and now >= mine.settles_s:
        node.switches.measure(load, int(reading.values["w"]))
    if name == node.settings.hertz_meter and "hz" in reading.values:
        mine.hz, mine.hz_s = float(reading.values["hz"]), now


# what is done


def heard(node: Node, id_: str, state: State | None) -> None:
    """A node's newest record, our own among them; None: it is no member (any more)."""
    node.balance.zone.hear(id_, state)


def hertz(node: Node, hz: float | None, now: float) -> None:
    """The frequency alone: what it asks for is done at once. One failed reading among many is nothing yet."""
    mine = node.balance
    if hz is not None:
        mine.hz, mine.hz_s = hz, now
    if mine.acts and mine.looked_s is not None:
        _apply(node, now)


def tick(node: Node, now: float) -> None:
    mine = node.balance
    if not mine.acts:
        return
    if mine.looked_s is None or now - mine.looked_s >= LOOK_S:
        mine.looked_s = now
        _watch(node, now)
        _plan(node, now)
        _alert(node, now)
    _apply(node, now)


def _watch(node: Node, now: float) -> None:
    """Whether our battery does what it holds."""
    mine = node.balance
    if mine.steer is None:
        return
    name = mine.steer.battery.meter
    watts, hz, nominal_hz = offer.read_w(node.own, name), mine.hertz(now), node.settings.nominal_hz
    island = mine.zone.mode == "island" or (mine.applied is not None and mine.applied.island)
    seen = Look(None if watts is None else -watts, offer.charge_pct(node.own, name), hz, nominal_hz, island)
    mine.steer.watch(seen, now)
    node.out += node.show.alert("battery", mine.steer.text, node.unix_s(now))


def _plan(node: Node, now: float) -> None:
    mine, mode = node.balance, node.balance.zone.mode
    if mode is None:
        said = ", ".join(f"{id_} says {known.kind}" for id_, known in sorted(mine.zone.feeders.items()))
        why = f"the zone cannot hang on both: {said}" if said else "nobody in this zone has a [feeder]"
        mine.verdict = mine.guards.lose(why, now)
        return
    mine.mode = mode
    if not mine.began:
        mine.guards.lost_s = None  # nothing was lost yet: at the start warming up is all there is to wait for
    view = mine.zone.view(_ages(node, now), node.net.heard, node.net.nodes, mine.hertz(now))
    mine.verdict = mine.guards.step(view, node.me, mine.zone.day(node.unix_s(now)), mode, now)
    mine.began = mine.began or mine.verdict.share is not None


def _ages(node: Node, now: float) -> dict[str, float]:
    """Who is planned with, and how old its record is. One growth after a silence may be an old copy that wandered in."""
    ages = {}
    for id_ in node.balance.zone.known:
        age_s = node.life.age_s(id_, now)
        if age_s is not None and age_s <= GONE_S:
            ages[id_] = GONE_S if node.life.returning(id_) else age_s
    return ages


def _apply(node: Node, now: float) -> None:
    mine, flex = node.balance, look(node, now)
    others = node.net.heard - (node.me in node.net.shares)
    day = mine.zone.day(node.unix_s(now))
    mine.applied = mine.local.step(flex, node.switches.opened(), mine.hertz(now), others, mine.verdict.share, mine.mode, day, now)
    loads.turn(node, now)
    if mine.steer is not None:
        last_w = mine.steer.applied_w
        point = mine.steer.step(mine.applied.battery_w if flex.dis_w + flex.chg_w else None, now)
        if point is not None:
            node.out.append(point)
            if abs(point.watts - last_w) * 1000 > STEP_PM * mine.steer.battery.power_w:
                mine.settle(now)


def point_set(node: Node, said: PointSet, now: float) -> None:
    """A set-point was written and read back, or not."""
    steer = node.balance.steer
    if steer is not None and said.battery == steer.battery.meter:
        node.out += node.show.alert("battery", steer.answer(said, now), node.unix_s(now))


def stop(node: Node) -> None:
    steer = node.balance.steer
    point = steer.stop() if steer is not None else None
    node.out += [point] if point is not None else []


# what is shown


def _alert(node: Node, now: float) -> None:
    mine, unix_s = node.balance, node.unix_s(now)
    why = mine.verdict.why if mine.zone.feeders and not mine.verdict.why.startswith("warming up") else ""
    mine.off_s = (now if mine.off_s is None else mine.off_s) if why else None
    if mine.off_s is None or now - mine.off_s < CALM_S:
        mine.off_why = ""
    elif _words(why) != _words(mine.off_why):
        mine.off_why = why
    instead = "" if mine.verdict.share is not None else ". Until it is, this node goes by its own meters"
    text = f"the plan of balance is not applied: {mine.off_why}{instead}" if mine.off_why else ""
    node.out += node.show.alert("balance", text, unix_s)
    others = [id_ for id_ in mine.verdict.others if node.life.fresh(id_)]
    more = f" and {len(others) - 10} more" if len(others) > 10 else ""
    text = f"{', '.join(others[:10])}{more}: other settings of balance than ours, so not planned with. Update the older agents"
    node.out += node.show.alert("balance-others", text if others else "", unix_s)
    sees = "; ".join(f"{id_} {round(part / 100_000) * 10} %" for id_, part in sorted(mine.verdict.doubted.items())[:10])
    text = f"the slack meter sees only a part of what changes there: {sees}. It is planned with that part"
    node.out += node.show.alert("balance-doubt", f"{text}. Check its meter: direction, transformer ratio" if sees else "", unix_s)


def _words(text: str) -> str:
    """Without the numbers, which change each second: each change of an alert is a message."""
    return re.sub(r"\d+", "", text)


def status(node: Node, now: float) -> dict[str, Any]:
    """For the command line; W, + = discharge."""
    mine, applied = node.balance, node.balance.applied
    return {
        "feeder": sorted(mine.zone.feeders),
        "mode": mine.zone.mode,
        "plan": mine.verdict.share is not None,
        "why": mine.verdict.why if mine.acts else "nothing here to switch or to steer",
        "island": applied is not None and applied.island,
        "battery_w": applied.battery_w if applied is not None and mine.steer is not None else None,
        "applied_w": mine.steer.applied_w if mine.steer is not None else None,
        "closure_w": mine.verdict.closure_w,
        "hz": mine.hertz(now),
        "digest": mine.digest,
    }
