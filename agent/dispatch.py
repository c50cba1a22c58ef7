"""Who serves, who waits: one pure integer plan for everybody, of which each node applies its own line.

It allocates on the uncontrolled base (what is wanted and what could be made), never on its own effect, so that no loop runs
through the plant and no delay can make it swing. What may be planned on at all is the matter of agent/guards.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal

Mode = Literal["island", "tied"]
Classes = tuple[bool, bool, bool, bool]

CLASSES = 4  # 0 critical ... 3 flexible
NONE: Classes = (False, False, False, False)


@dataclass(frozen=True, slots=True)
class Flex:
    """What one node wants and offers now, in whole W, Wh and s; all >= 0 but `applied_w` and `slack_w`.

    `load` is the uncontrolled base by class, an opened block with what it would draw. `dis_w` and `chg_w` are what the battery
    can do now, `ttg_s` how long it could discharge with its full power.
    """

    load: tuple[int, int, int, int]
    pv_w: int = 0  # available, not what a limit leaves of it
    dis_w: int = 0
    chg_w: int = 0
    ttg_s: int = 0
    soc_wh: int = 0
    cap_wh: int = 0
    firm_w: int = 0  # what a generator can give or the feeder may import; only its owner
    applied_w: int = 0  # battery set-point in force, + = discharging
    slack_w: int | None = None  # what the feeder's meter or the grid-forming unit sees, + = supplied by it; only its owner
    export_w: int | None = None  # what the feeder may take back; only its owner, None = all


@dataclass(frozen=True, slots=True)
class Settings:
    """What everybody must have alike: agent/guards.py compares its digest. Parts in thousandths."""

    bias_pm: int = 1050  # islands: set-points count on 5 % more than is firm, so that the generator is full and batteries regulate
    bias_dis_pm: int = 100  # ... but no more than this part of what batteries can give: for it droop asks 0.25 Hz, no shedding
    band_s: int = 900  # time-to-go over which a battery goes from nothing to full power: no step in need makes a greater one here
    margin_pm: int = 4  # of the demand must be left over before an opened block returns
    target_pm: int = 1000  # state of charge up to which batteries charge from firm power; above it from sunshine only
    stale_s: int = 60  # a node silent for longer follows no plan: its load stays, its offers do not
    lag_s: int = 0  # what messages are known to take on their way, where ages contain it
    free_s: int = 10  # tied: mean age of the records from which on headroom is kept, 2 s a hop need none ...
    headroom_pm_s: int = 1  # ... and how much more a second, 10 s a hop (about 40 s) need 3 %
    headroom_most_pm: int = 100


@dataclass(frozen=True, slots=True)
class Share:
    """One node's line of the plan."""

    open: Classes  # which classes are shed
    battery_w: int  # set-point, + = discharge
    pv_limit_w: int | None  # None = no limit
    hold: Classes = NONE  # which classes stay open if they are open: `open` with the margin for coming back


@lru_cache(maxsize=1 << 14)
def turn(node: str, day: int) -> bytes:
    """A node's place in the order of shedding inside a class: another one each day, the same for everybody, nobody's choice."""
    return sha256(f"{node}|{day}".encode()).digest()


def dispatch(
    table: Mapping[str, tuple[Flex, float]], day: int, mode: Mode, settings: Settings, closure_w: int = 0
) -> dict[str, Share]:
    """The plan for all of `table` (id -> what it offers, age of its record in s), `closure_w` W being wanted by nobody known.

    `day` is the UTC day number. `closure_w` < 0: somebody unknown supplies. Whole watts and sorted ids: the same table gives
    the same plan on any machine, in any order (tied, the ages in whole seconds must be the same too).
    Whoever is silent beyond stale_s + lag_s counts with load and sunshine, and gets a line that does nothing.
    Source of the battery rule: Evans, Tindemans, Angeli 2019, arXiv 1807.09044: longest time-to-go first leaves the least
    unserved of any rule without a forecast.
    """
    reach_s = settings.stale_s + settings.lag_s
    planned: dict[str, Flex] = {}
    first_w = second_w = third_w = fourth_w = sun_w = firm_w = most_w = most_one_w = silent_w = silent_sun_w = 0
    for node, (flex, age_s) in table.items():
        if age_s > reach_s:
            silent_w += sum(flex.load)
            silent_sun_w += flex.pv_w
            continue
        planned[node] = flex
        load = flex.load
        first_w += load[0]
        second_w += load[1]
        third_w += load[2]
        fourth_w += load[3]
        sun_w += flex.pv_w
        firm_w += flex.firm_w
        most_w += flex.dis_w
        most_one_w = max(most_one_w, flex.dis_w)
    wanted = (first_w, second_w, third_w, fourth_w)
    base_w = silent_w + max(0, closure_w)
    free_w = sun_w + silent_sun_w + max(0, -closure_w)
    if mode == "tied":
        firm_w -= firm_w * headroom_pm([table[node][1] for node in planned], settings) // 1000
    demand_w = base_w + sum(wanted)
    supply_w = free_w + firm_w + most_w
    if mode == "tied" and not limited(planned.values()):
        supply_w = demand_w * 2  # nobody knows a limit, so none is kept
    cut = _cut(wanted, demand_w - supply_w)
    kept = _cut(wanted, demand_w + demand_w * settings.margin_pm // 1000 - supply_w)
    opened = _opened(planned, cut, day)
    held = _opened(planned, kept, day)
    served_w = demand_w - sum(cut)
    need_w = served_w - free_w - firm_w
    if mode == "island":
        # droop takes the bias from all alike, also from those whose turn it is not. So it grows with what is called upon, or the
        # longest would be spared for hours and lack the power to catch up: 1.074 instead of 1.099 times the bound, 53 nodes. One
        # battery alone keeps the whole of it, there is nobody to spare: 1.061, without 1.100, 4 nodes.
        called_w = max(min(need_w, most_w), most_one_w, 1)  # where all are empty the whole bias refills them
        need_w -= bias_w(firm_w, most_w, settings) * called_w // max(1, most_w)
    batteries = _batteries(planned, need_w, free_w - served_w, settings)
    limits = {}
    if mode == "tied":
        over_w = free_w - served_w + sum(batteries.values())
        limits = _limits(planned, sun_w, over_w, settings.band_s)
    idle = Share(NONE, 0, None)
    plan = dict.fromkeys(sorted(table), idle)
    for node in planned:
        plan[node] = Share(opened.get(node, NONE), batteries.get(node, 0), limits.get(node), held.get(node, NONE))
    return plan


def bias_w(firm_w: int, most_w: int, settings: Settings) -> int:
    """How much more than firm an island's set-points count on, where batteries can give `most_w`.

    The last of it is kept: where batteries can give no more than the whole bias they are held there, or nothing would regulate.
    """
    whole_w = firm_w * (settings.bias_pm - 1000) // 1000
    return min(whole_w, max(most_w * settings.bias_dis_pm // 1000, 2 * whole_w - most_w))


def limited(known: Iterable[Flex]) -> bool:
    """Whether anybody here knows what the common coupling may carry or a generator can give."""
    return any(flex.slack_w is not None or flex.firm_w for flex in known)


def headroom_pm(ages_s: Sequence[float], settings: Settings) -> int:
    """Thousandths of the import limit that are left free for what has changed since the records were made.

    Source: measured in simulation, 53 nodes on 15 min of seeded noise: 0 is best up to 2 s a hop, 3 % at 10 s.
    """
    if not ages_s:
        return 0
    mean_s = sum(int(age_s) for age_s in ages_s) // len(ages_s)
    return min(settings.headroom_most_pm, max(0, mean_s - settings.free_s) * settings.headroom_pm_s)


def fill(need_w: int, offers: Iterable[tuple[str, int, int]], band_s: int) -> dict[str, int]:
    """Whole watts that sum to min(need, all) exactly, from (id, W, key in s): the highest key first, softly.

    u = W * clip((key - z) / band_s, 0, 1), z the level at which they sum to the need. The watts that lie within one second of z
    go in id order. Since that is one fixed order of all watts, a watt more of need moves one watt of one node and nothing else.
    """
    rows = sorted(offers)
    left_w = sum(row[1] for row in rows)
    if need_w >= left_w:
        return {node: cap_w for node, cap_w, _ in rows}
    if need_w <= 0:
        return {node: 0 for node, _, _ in rows}
    low, high = min(row[2] for row in rows) - band_s, max(row[2] for row in rows)  # all of them, none of them
    while high - low > 1:
        middle = (low + high) // 2
        if sum(cap_w * min(band_s, max(0, key_s - middle)) // band_s for _, cap_w, key_s in rows) > need_w:
            low = middle
        else:
            high = middle
    above = [cap_w * min(band_s, max(0, key_s - high)) // band_s for _, cap_w, key_s in rows]
    rest_w, filled = need_w - sum(above), {}
    for (node, cap_w, key_s), sure_w in zip(rows, above, strict=True):
        more_w = min(rest_w, cap_w * min(band_s, max(0, key_s - low)) // band_s - sure_w)
        rest_w -= more_w
        filled[node] = sure_w + more_w
    return filled


def _cut(wanted: Sequence[int], short_w: int) -> list[int]:
    """How many W of each class must go, the flexible first."""
    cut = [0] * CLASSES
    for each in reversed(range(CLASSES)):
        cut[each] = min(wanted[each], max(0, short_w))
        short_w -= cut[each]
    return cut


def _opened(planned: Mapping[str, Flex], cut: Sequence[int], day: int) -> dict[str, Classes]:
    """Whose blocks are open: in the day's order up to the cut, exact to half a block."""
    opened: dict[str, list[bool]] = {}
    if not any(cut):
        return {}
    order = sorted(planned, key=lambda node: turn(node, day))
    for each in range(CLASSES):
        before_w, cut_w = 0, cut[each]
        if not cut_w:
            continue
        for node in order:
            load_w = planned[node].load[each]
            if 2 * before_w + load_w >= 2 * cut_w:
                break  # the middles of the blocks only grow
            before_w += load_w
            if load_w:
                opened.setdefault(node, [False] * CLASSES)[each] = True
    return {node: (flags[0], flags[1], flags[2], flags[3]) for node, flags in opened.items()}


def _batteries(planned: Mapping[str, Flex], need_w: int, sun_left_w: int, settings: Settings) -> dict[str, int]:
    """Set-points: discharge the longest time-to-go first, charge the shortest first."""
    have = {node: flex for node, flex in planned.items() if flex.dis_w or flex.chg_w}
    if need_w > 0:
        return fill(need_w, [(node, flex.dis_w, flex.ttg_s) for node, flex in have.items()], settings.band_s)
    low = {node: flex for node, flex in have.items() if flex.soc_wh * 1000 < settings.target_pm * flex.cap_wh}
    given = fill(-need_w, [(node, flex.chg_w, -flex.ttg_s) for node, flex in low.items()], settings.band_s)
    rest_w = min(-need_w, sun_left_w) - sum(given.values())
    given |= fill(rest_w, [(node, flex.chg_w, -flex.ttg_s) for node, flex in have.items() if node not in low], settings.band_s)
    return {node: -charge_w for node, charge_w in given.items()}


def _limits(planned: Mapping[str, Flex], sun_w: int, over_w: int, band_s: int) -> dict[str, int]:
    """What each may make of its sunshine where the feeder takes only so much back: the same part of it for all."""
    limits = [flex.export_w for flex in planned.values() if flex.export_w is not None]
    if not limits or over_w <= sum(limits):
        return {}
    allowed_w = sun_w - (over_w - sum(limits))
    return fill(allowed_w, [(node, flex.pv_w, 0) for node, flex in planned.items() if flex.pv_w], band_s)
