"""What a node does by its own meter's frequency alone: droop, under-frequency shedding, restoring, sensing an island.

Droop and shedding stand behind the plan at all times; without a plan they are all there is, and batteries take the node's own
surplus. A Pi is the second line of defence here: the inverter's own droop is the first, and the meter's averaging the limit
(in simulation an island survived a trip in 100 % of cases with frequency read each 0.1 s, in 83 % at 1 s).
"""

from dataclasses import dataclass, field

from agent.dispatch import CLASSES, NONE, Classes, Flex, Mode, Share, turn

GROUPS = 10  # of nodes when restoring


@dataclass(frozen=True, slots=True)
class Frequency:
    """Thresholds as mHz away from nominal."""

    nominal_mhz: int = 50_000
    droop_from_mhz: int = 200  # 49.8 and 50.2 Hz, where inverters' own droop starts (EN 50549-1)
    droop_pm: int = 50  # of nominal for the whole power: 2.5 Hz at 50 Hz
    shed_from_mhz: int = 1000  # 49.0 to 48.0 Hz: Reg. (EU) 2017/2196, annex
    shed_to_mhz: int = 2000
    steps: int = 100  # 25 for each class, 10 mHz each as far as meters tell them apart; 12 opened twice what was missing
    restore_mhz: int = 150  # from 49.85 Hz on, where droop is at rest: there is something to spare
    planned_mhz: int = 900  # with a plan: it knows what is spare, and its bias keeps droop at work for hours
    calm_s: float = 5.0  # for so long before the first block returns; with a plan that is all
    group_s: float = 5.0  # between two groups of nodes, so that ten groups return in 50 s
    class_s: float = 15.0  # between two classes
    proven_s: float = 120.0  # longer than the slowest return takes (100 s): no new shedding for so long, and it was right
    backoff: int = 8  # at most so many times slower while it was not: then everybody is back within 800 s
    gap_s: float = 2.0  # failed readings no longer than that do not start the waiting again
    sense_mhz: int = 200  # beyond what an interconnected grid does (Reg. (EU) 2017/1485: standard range 50 mHz, at most 200)
    sense_s: float = 1.0
    calm_mhz: int = 50
    back_s: float = 60.0  # so long within calm_mhz is no island any more
    reserve_pm: int = 200  # islands, nobody heard: below it own use is left to others, droop has what remains
    refill_mhz: int = 50  # islands: from 50.05 Hz on charge with what is too much, all of it at 50.2 where sunshine is cut

    @classmethod
    def of(cls, nominal_hz: int) -> "Frequency":
        """For 50 or 60 Hz; the 60 Hz steps lie in what ERCOT's operating guide 2.6.1 asks (59.3 to 58.5 Hz, NERC PRC-006)."""
        return (
            cls() if nominal_hz == 50 else cls(nominal_mhz=nominal_hz * 1000, shed_from_mhz=700, shed_to_mhz=1500, planned_mhz=600)
        )

    def away_mhz(self, hz: float | None) -> int | None:
        """mHz above nominal; None for what no grid can have and no meter should say, 10 % and more off."""
        away = None if hz is None else round(hz * 1000) - self.nominal_mhz
        return None if away is None or abs(away) * 10 >= self.nominal_mhz else away


@dataclass(frozen=True, slots=True)
class Applied:
    """What is applied in the end; agent/switches.py turns the classes into relays."""

    open: Classes  # these open
    hold: Classes  # these stay open if they are
    urgent: Classes  # opened by frequency: before minimum on times and a person's "on"
    battery_w: int  # + = discharge
    pv_limit_w: int | None
    island: bool  # an island by configuration or by one's own frequency


def droop_w(away_mhz: int, flex: Flex, rule: Frequency) -> int:
    """What a battery adds to its set-point at this frequency, + = discharge."""
    beyond = abs(away_mhz) - rule.droop_from_mhz
    if beyond <= 0:
        return 0
    power_w = flex.dis_w if away_mhz < 0 else flex.chg_w
    moved_w = min(power_w, power_w * beyond * 1000 // (rule.nominal_mhz * rule.droop_pm))
    return moved_w if away_mhz < 0 else -moved_w


def sun_limit_w(away_mhz: int, flex: Flex, rule: Frequency) -> int | None:
    """What may be made of the sunshine at this frequency: 40 % less a Hz above 50.2 (50 Hz), all alike. None = all."""
    beyond = away_mhz - rule.droop_from_mhz
    if beyond <= 0:
        return None
    return max(0, flex.pv_w - flex.pv_w * beyond * 1000 // (rule.nominal_mhz * rule.droop_pm))


def shed_below_mhz(node: str, day: int, each: int, rule: Frequency) -> int:
    """How far below nominal the node opens this class: flexible first, inside a class by groups that change each day."""
    per_class = rule.steps // CLASSES
    step = (CLASSES - 1 - each) * per_class + (int.from_bytes(turn(node, day)[:8], "big") * per_class >> 64)
    return rule.shed_from_mhz + (rule.shed_to_mhz - rule.shed_from_mhz) * step // (per_class * CLASSES - 1)


@dataclass(slots=True)
class Local:
    """The node's own rule; `step` at each reading of the frequency, 5 times a second or more where the meter can."""

    node: str
    rule: Frequency
    droop: bool = True  # False where the inverter's own droop acts on the set-point: twice is too much
    island: bool = False  # sensed
    good_s: float | None = None  # since when the frequency has been good enough to restore
    blind_s: float | None = None  # since when nobody knows the frequency
    off_s: float | None = None  # since when it is not what an interconnected grid has
    calm_s: float | None = None
    tripped: set[int] = field(default_factory=set)  # classes that the frequency opened
    fell_s: float | None = None  # when it last fell so far that somebody sheds
    calmed: bool = True  # it was good since
    slower: int = 1

    def step(
        self, flex: Flex, opened: Classes, hz: float | None, heard: int, plan: Share | None, mode: Mode, day: int, now: float
    ) -> Applied:
        """What to apply. `opened` says which classes are open now, `heard` how many other nodes are heard, `plan` is this node's
        line of the plan or None where there is no plan."""
        away = self.rule.away_mhz(hz)
        self._sense(away, heard, now)
        self._watch(away, plan is not None, now)
        urgent = [away is not None and away <= -shed_below_mhz(self.node, day, each, self.rule) for each in range(CLASSES)]
        self.tripped = {each for each in range(CLASSES) if urgent[each] or (opened[each] and each in self.tripped)}
        stay = [opened[each] and not self._may_return(each, plan, day, now) for each in range(CLASSES)]
        island = mode == "island" or self.island
        base = plan or Share(NONE, self._own_w(flex, opened, island and not heard), None)
        return Applied(
            open=_classes([base.open[each] or urgent[each] for each in range(CLASSES)]),
            hold=_classes([base.open[each] or base.hold[each] or urgent[each] or stay[each] for each in range(CLASSES)]),
            urgent=_classes(urgent),
            battery_w=self._battery_w(base.battery_w, away, flex, plan is None and island),
            pv_limit_w=self._limit_w(base.pv_limit_w, away, flex),
            island=island,
        )

    def _sense(self, away: int | None, heard: int, now: float) -> None:
        """Nobody heard and the frequency off: an island. Somebody heard, or calm for long: none."""
        far = away is not None and abs(away) > self.rule.sense_mhz and not heard
        near = away is not None and abs(away) <= self.rule.calm_mhz
        self.off_s = (now if self.off_s is None else self.off_s) if far else None
        self.calm_s = (now if self.calm_s is None else self.calm_s) if near else None
        if self.off_s is not None and now - self.off_s >= self.rule.sense_s:
            self.island = True
        elif heard or (self.calm_s is not None and now - self.calm_s >= self.rule.back_s):
            self.island = False

    def _watch(self, away: int | None, planned: bool, now: float) -> None:
        if away is None:
            self.blind_s = now if self.blind_s is None else self.blind_s
            if now - self.blind_s > self.rule.gap_s:
                self.good_s = None
            return
        self.blind_s = None
        good = away >= -(self.rule.planned_mhz if planned else self.rule.restore_mhz)
        self.good_s = (now if self.good_s is None else self.good_s) if good else None
        if away <= -self.rule.shed_from_mhz:
            self._fell(now)
        self.calmed = self.calmed or (self.good_s is not None and now - self.good_s >= self.rule.calm_s)

    def _fell(self, now: float) -> None:
        """So far that somebody sheds, if not this node. Soon after it was good again that says that somebody returned too early:
        all that see this frequency take longer from now on, in step."""
        if self.calmed:  # else it is still the same fall
            soon = self.fell_s is not None and now - self.fell_s <= self.rule.proven_s * self.slower
            self.slower = min(self.rule.backoff, self.slower * 2) if soon else 1
        self.fell_s, self.calmed = now, False

    def _may_return(self, each: int, plan: Share | None, day: int, now: float) -> bool:
        """With a plan, what it opened is its matter, and what the frequency opened returns once that is calm. Without, everything
        returns by frequency alone, the critical class first; where no frequency is known, in the same order but much later."""
        if plan is not None and each not in self.tripped:
            return True
        since = self.blind_s if self.good_s is None else self.good_s
        if since is None:
            return False
        wait_s = self.rule.calm_s
        if plan is None:
            group = int.from_bytes(turn(self.node, day)[8:16], "big") % GROUPS
            wait_s += self.rule.group_s * group + self.rule.class_s * each
        return now - since >= wait_s * (self.slower if self.good_s is not None else self.rule.backoff)

    def _own_w(self, flex: Flex, opened: Classes, alone: bool) -> int:
        """The battery takes the node's own surplus and covers its own need; in an island where nobody is heard only down to the
        reserve. Where others are, this is half of a divided network: what this battery keeps back, the other half must shed."""
        wanted_w = sum(load_w for load_w, is_open in zip(flex.load, opened, strict=True) if not is_open)
        own_w = wanted_w - flex.pv_w
        low = flex.soc_wh * 1000 < self.rule.reserve_pm * flex.cap_wh
        return min(own_w, 0) if low and alone else own_w

    def _battery_w(self, base_w: int, away: int | None, flex: Flex, refill: bool) -> int:
        added_w = 0
        if away is not None:
            added_w = droop_w(away, flex, self.rule) if self.droop else 0
            if refill and away > self.rule.refill_mhz:
                span = self.rule.droop_from_mhz - self.rule.refill_mhz
                added_w = -flex.chg_w * min(span, away - self.rule.refill_mhz) // span
        return min(flex.dis_w, max(-flex.chg_w, base_w + added_w))

    def _limit_w(self, limit_w: int | None, away: int | None, flex: Flex) -> int | None:
        by_hz = None if away is None else sun_limit_w(away, flex, self.rule)
        known = [each for each in (limit_w, by_hz) if each is not None]
        return min(known) if known else None


def _classes(flags: list[bool]) -> Classes:
    return flags[0], flags[1], flags[2], flags[3]
