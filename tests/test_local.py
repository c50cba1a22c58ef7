"""The frequency's own rule: watts and steps by hand, then a small island under deficits, which must neither fall nor swing."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dispatch import NONE, Flex, Share, turn
from agent.local import Applied, Frequency, Local, droop_w, shed_below_mhz, sun_limit_w

EUROPE, AMERICA = Frequency.of(50), Frequency.of(60)
DAY = 20_000
HOUSE = Flex((300, 100, 50, 50), pv_w=900, dis_w=2000, chg_w=3000, ttg_s=3600, soc_wh=2000, cap_wh=4000)
ALL = (True, True, True, True)
OPEN3 = (False, False, False, True)


@dataclass
class One:
    """A node whose relays follow at once."""

    local: Local
    flex: Flex = HOUSE
    opened: tuple = NONE
    log: list = field(default_factory=list)

    def at(self, hz, now, plan=None, heard=0, mode="island") -> Applied:
        done = self.local.step(self.flex, self.opened, hz, heard, plan, mode, DAY, now)
        opened = tuple(a or (was and b) for a, b, was in zip(done.open, done.hold, self.opened, strict=True))
        if opened != self.opened:
            self.log.append((now, opened))
        self.opened = opened
        return done


def house(**given) -> One:
    return One(Local("house", EUROPE), **given)


# ---- by hand


@pytest.mark.parametrize(
    ("hz", "dis", "chg"),
    [
        (50.0, 0, 0),
        (49.8, 0, 0),
        (50.2, 0, 0),
        (49.55, 200, 0),
        (48.55, 1000, 0),
        (47.0, 2000, 0),
        (51.45, 0, -1500),
        (54.0, 0, -3000),
    ],
)
def test_droop_of_five_percent(hz, dis, chg):
    # 5 % of 50 Hz are 2.5 Hz for the whole power: 0.25 Hz beyond 49.8 are a tenth of 2000 W, 1.25 Hz beyond 50.2 half of 3000 W
    away = EUROPE.away_mhz(hz)
    assert away is not None
    assert droop_w(away, HOUSE, EUROPE) == dis + chg


def test_droop_at_sixty():
    away = AMERICA.away_mhz(58.3)
    assert away == -1700
    assert droop_w(away, HOUSE, AMERICA) == 1000  # 1.5 of 3 Hz


@pytest.mark.parametrize(("hz", "limit_w"), [(50.0, None), (50.2, None), (50.45, 810), (51.45, 450), (52.7, 0), (53.9, 0)])
def test_sunshine_is_cut_by_forty_percent_a_hertz(hz, limit_w):
    away = EUROPE.away_mhz(hz)
    assert away is not None
    assert sun_limit_w(away, HOUSE, EUROPE) == limit_w


@pytest.mark.parametrize(("hz", "away"), [(None, None), (45.0, None), (45.001, -4999), (55.0, None), (0.0, None), (49.9996, 0)])
def test_no_grid_has_such_a_frequency(hz, away):
    assert EUROPE.away_mhz(hz) == away


@pytest.mark.parametrize(("rule", "first", "last"), [(EUROPE, 1000, 2000), (AMERICA, 700, 1500)])
def test_a_hundred_steps_the_flexible_first(rule, first, last):
    names = [f"n{number}" for number in range(1000)]
    steps = [sorted({shed_below_mhz(name, DAY, each, rule) for name in names}) for each in range(4)]
    assert [len(each) for each in steps] == [25, 25, 25, 25]
    in_order = [step for each in reversed(steps) for step in each]
    assert in_order == sorted(set(in_order))
    assert (in_order[0], in_order[-1]) == (first, last)
    blocks = [shed_below_mhz(name, DAY, each, rule) for name in names for each in range(4)]
    for step in in_order:
        assert blocks.count(step) <= 0.02 * len(blocks)
    assert len({shed_below_mhz("n1", day, 3, rule) for day in range(30)}) > 10  # another turn each day


def test_the_frequency_opens_in_the_order_of_the_plan():
    # or both open blocks, each others, for one deficit
    names = sorted((f"n{number}" for number in range(50)), key=lambda name: turn(name, DAY))
    below = [shed_below_mhz(name, DAY, 3, EUROPE) for name in names]
    assert below == sorted(below)
    assert len(set(below)) > 15


def test_shedding_step_by_step():
    node = house()
    steps = [shed_below_mhz("house", DAY, each, EUROPE) for each in range(4)]
    for each in (3, 2, 1, 0):
        above = node.at(50 - (steps[each] - 1) / 1000, 1.0)
        assert not above.open[each]
        at = node.at(50 - steps[each] / 1000, 1.2)
        assert at.open[each]
        assert at.urgent == at.open == at.hold
    assert node.opened == ALL


def test_restoring_is_staged_the_critical_first():
    node = house()
    node.at(47.9, 0.0)
    group = int.from_bytes(turn("house", DAY)[8:16], "big") % 10
    for tick in range(1, 1500):
        node.at(49.85, tick * 0.2)
    # good from 0.2 s on, 5 s, 5 s for each group before this one, 15 s for each class before
    assert [opened for _, opened in node.log] == [ALL, (False, True, True, True), (False, False, True, True), OPEN3, NONE]
    waits = [now - 0.2 - 5.0 - 5.0 * group for now, _ in node.log[1:]]
    assert waits == pytest.approx([0, 15, 30, 45], abs=0.21)


def test_the_waiting_starts_anew_when_the_frequency_sags_but_not_for_one_lost_reading():
    node = house()
    node.at(48.6, 0.0)
    node.at(49.84, 1.0)
    assert node.local.good_s is None
    node.at(49.86, 2.0)
    node.at(None, 3.0)
    node.at(49.86, 4.0)
    assert node.local.good_s == 2.0
    node.at(None, 5.0)
    node.at(None, 7.1)
    assert node.local.good_s is None


def test_without_any_frequency_what_was_open_returns_much_later():
    node = house(opened=OPEN3)
    group = int.from_bytes(turn("house", DAY)[8:16], "big") % 10
    after_s = 8 * (5 + 5 * group + 45)
    node.at(None, 0.0)
    node.at(None, after_s - 0.1)
    assert node.opened == OPEN3
    node.at(None, float(after_s))
    assert node.opened == NONE


def test_before_the_first_good_reading_nothing_returns():
    node = house(opened=OPEN3)
    node.at(49.0, 0.0)
    node.at(49.5, 99.0)
    assert node.opened == OPEN3


def test_with_a_plan_the_plan_rules_and_the_frequency_stands_behind_it():
    node = house(opened=OPEN3)
    plan = Share((False, False, True, False), 700, 800, (False, False, True, True))
    done = node.at(50.0, 0.0, plan)
    assert (done.open, done.hold, done.urgent) == (plan.open, plan.hold, NONE)
    assert (done.battery_w, done.pv_limit_w) == (700, 800)
    done = node.at(49.55, 1.0, plan)
    assert done.battery_w == 900  # 200 by droop
    assert node.at(47.0, 2.0, plan).battery_w == 2000
    assert node.opened == ALL
    node = house(opened=OPEN3)
    assert node.at(50.45, 0.0, Share(NONE, -2900, 800)).pv_limit_w == 800
    over = node.at(50.95, 1.0, Share(NONE, -2900, 800))
    assert (over.battery_w, over.pv_limit_w) == (-3000, 630)  # 0.75 Hz beyond: 30 % of 900 W less
    assert node.opened == NONE  # what a plan opened, a plan closes


def test_what_the_frequency_opened_returns_with_a_plan_once_it_is_calm():
    node = house()
    plan = Share(NONE, 0, None)
    node.at(48.5, 0.0, plan)
    assert node.opened[3]
    node.at(49.9, 1.0, plan)
    node.at(49.9, 5.9, plan)
    assert node.opened[3]
    node.at(49.9, 6.0, plan)
    assert node.opened == NONE
    node.at(49.9, 6.2, plan)
    assert node.local.tripped == set()


def test_with_a_plan_it_is_calm_while_droop_is_at_work():
    node, plan = house(), Share(NONE, 0, None)
    node.at(48.5, 0.0, plan)
    node.at(49.09, 1.0, plan)
    assert node.local.good_s is None
    node.at(49.1, 2.0, plan)
    node.at(49.1, 7.0, plan)
    assert node.opened == NONE
    node.at(49.1, 8.0)
    assert node.local.good_s is None


def test_no_droop_twice():
    node = house()
    node.local.droop = False
    assert node.at(49.0, 0.0, Share(NONE, 300, None)).battery_w == 300
    assert node.at(51.0, 0.0, Share(NONE, 300, None)).battery_w == 300
    assert node.at(50.125, 0.0).battery_w == -400 - 1500  # own surplus, and refilling all the same


def test_own_surplus_and_need():
    node = house()
    assert node.at(50.0, 0.0, mode="tied").battery_w == -400  # 500 W wanted, 900 W of sunshine
    node.flex = Flex((3000, 0, 0, 500), 0, 2000, 3000, 3600, 799, 4000)
    assert node.at(50.0, 1.0, mode="tied").battery_w == 2000
    assert node.at(50.0, 2.0, mode="island").battery_w == 0  # below the reserve of 20 %
    assert node.at(49.55, 2.0, mode="island").battery_w == 200  # which is for droop
    assert node.at(50.0, 2.0, mode="island", heard=1).battery_w == 2000  # half of a divided network, not a house alone
    node.flex = Flex((300, 0, 0, 500), 0, 2000, 3000, 3600, 800, 4000)
    assert node.at(50.0, 3.0, mode="island").battery_w == 800
    node.opened = OPEN3
    assert node.at(50.0, 4.0, mode="island").battery_w == 300  # what is open draws nothing


def test_an_island_refills_while_the_frequency_is_high():
    node = house()
    node.flex = Flex((0, 0, 0, 0), 0, 2000, 3000, 3600, 2000, 4000)
    # 50.05 to 50.2 Hz: 0 to 3000 W
    assert [node.at(hz, 0.0).battery_w for hz in (50.05, 50.1, 50.125, 50.2, 50.5)] == [0, -1000, -1500, -3000, -3000]
    assert [node.at(hz, 0.0, mode="tied").battery_w for hz in (50.1, 50.2)] == [0, 0]
    assert node.at(50.1, 0.0, Share(NONE, 0, None)).battery_w == 0


def test_an_island_is_sensed_when_nobody_is_heard_and_the_frequency_is_off():
    node = house()
    assert not node.at(50.21, 0.0, mode="tied").island
    assert not node.at(50.21, 0.9, mode="tied").island
    assert node.at(50.21, 1.0, mode="tied").island
    assert node.at(50.0, 2.0, mode="tied").island
    assert node.at(50.0, 61.9, mode="tied").island
    assert not node.at(50.0, 62.0, mode="tied").island
    node.at(49.7, 70.0, mode="tied")
    assert node.at(49.7, 71.0, mode="tied").island
    assert node.at(None, 72.0, mode="tied").island
    assert not node.at(49.7, 73.0, heard=1, mode="tied").island
    assert house().at(50.0, 0.0, mode="island").island


def test_a_frequency_that_comes_and_goes_makes_no_island():
    node = house()
    for tick in range(100):
        assert not node.at(50.21 if tick % 2 else 50.19, tick * 0.9, mode="tied").island


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 0.0, 47.0, 48.4, 48.9, 49.3, 49.9, 50.0, 50.3, 52.0]), st.sampled_from([0.2, 3.0, 30.0])),
        max_size=40,
    )
)
def test_whatever_the_frequency_does(steps):
    node, now, last = house(), 0.0, {}
    for hz, after_s in steps:
        now += after_s
        before = node.opened
        done = node.at(hz, now)
        assert -node.flex.chg_w <= done.battery_w <= node.flex.dis_w
        assert done.pv_limit_w is None or 0 <= done.pv_limit_w <= node.flex.pv_w
        assert all(b for a, b in zip(done.open, done.hold, strict=True) if a)
        if hz is not None and hz >= 49.0:
            assert done.open == NONE
        for each, (was, is_open) in enumerate(zip(before, node.opened, strict=True)):
            if is_open and not was:
                last[each] = now
            if was and not is_open:
                assert now - last[each] >= 5.0
        # no class is open while a more flexible one of the same house runs
        assert all(low <= high for low, high in pairwise(node.opened))


def test_a_new_fall_long_after_the_last_starts_with_short_waits_again():
    node = house()
    group = int.from_bytes(turn("house", DAY)[8:16], "big") % 10
    wait_s = 5 + 5 * group + 45 + 1
    now, slower = 0.0, []
    for _ in range(7):
        node.at(48.6, now)
        slower.append(node.local.slower)
        node.at(50.0, now + 1)
        now += 1 + wait_s * node.local.slower
        node.at(50.0, now)
        assert node.opened == NONE
    assert slower == [1, 2, 4, 8, 8, 8, 8]
    node.at(48.6, now + 120 * 8 + 1)
    assert node.local.slower == 1
