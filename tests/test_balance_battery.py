"""A battery in balance: what it is told with a plan, without one and by frequency, and what is offered of it."""

from dataclasses import replace

import pytest
from house import BATTERY, CELLAR, HEATER, MAIN, House, cellar, flex, own_flex, points, street, switched

from agent.events import Hertz, PointSet, Stopping
from agent.follow import OFF_S, RAMP_S
from agent.guards import SLACK_S
from agent.offer import Battery


@pytest.mark.parametrize(("own_droop", "watts"), [(True, 1000), (False, 1720)])
def test_droop_is_added_where_the_inverter_has_none(own_droop, watts):
    """49.2 Hz is 600 mHz beyond 49.8: 600 / 2500 of 3000 W are 720 W."""
    battery = Battery("cellar", 3000, 10_000, written=True, droop=own_droop)
    house = House(cellar(0), battery=battery, hertz_meter="main")
    house.live(3.0)
    house.do(PointSet("cellar", 1000, ""))
    house.do(Hertz(49.2))
    assert house.balance["battery_w"] == watts


@pytest.mark.parametrize(("kind", "watts"), [("grid", 1000), ("generator", 0)])
def test_without_the_plan_a_battery_keeps_its_reserve_in_an_island(kind, watts):
    house = House(cellar(0, soc_pct=15.0), battery=BATTERY)
    house.live(10.0, hill=street(2500, 9000, kind))
    assert house.balance["plan"]
    house.live(SLACK_S + 5.0)
    assert (house.balance["plan"], house.balance["battery_w"]) == (False, watts)


def test_while_a_set_point_settles_the_base_is_the_one_before():
    house = House(cellar(0), battery=BATTERY)
    assert points(house.live(1.0)) == [1000]
    house.reads["main"] = {"w": 0}  # it gives already, and its own meter does not show it yet
    house.live(2.0)
    assert own_flex(house)["load"] == [1000, 0, 0, 0]
    house.live(3.0)
    assert own_flex(house)["load"] == [0, 0, 0, 0]


def test_without_a_plan_a_battery_covers_its_own_house():
    house = House(cellar(0), battery=BATTERY)
    effects = house.live(2.0)
    assert points(effects) == [1000]
    house.do(PointSet("cellar", 1000, ""))
    house.reads = cellar(-1000)
    assert points(house.live(10.0)) == []  # the base is still 1000
    said = own_flex(house)
    assert (said["load"], said["dis_w"], said["applied_w"], said["soc_wh"]) == ([1000, 0, 0, 0], 3000, 1000, 5000)
    assert (house.balance["battery_w"], house.balance["applied_w"]) == (1000, 1000)
    assert points(house.live(15.0)) == [1000]  # renewed before it lapses
    house.do(PointSet("other", 7, ""))
    assert house.balance["applied_w"] == 1000
    assert points(house.do(Stopping())) == [0]


def test_by_the_plan_it_gives_what_the_feeder_cannot():
    house = House(cellar(0), battery=BATTERY, loads=(HEATER,))
    fed = {"consumed_w": 4000, "flex": flex(4000, 0, 0, 0, firm_w=3500, kind="grid", slack_w=5000)}
    house.live(2.0)
    house.do(PointSet("cellar", 1000, ""))
    effects = house.live(8.0, hill=fed)
    assert points(effects)[-1] == 1500  # 1000 + 4000 wanted, 3500 come in
    assert switched(effects) == []


def test_a_battery_that_does_not_listen_is_offered_to_nobody():
    house = House(cellar(0), battery=BATTERY)
    house.live(2.0)
    house.do(PointSet("cellar", 0, "it holds 77 W"))
    assert "battery" not in house.alerts
    assert points(house.live(1.0)) == [1000]
    house.do(PointSet("cellar", 0, "it holds 77 W"))
    assert house.alerts["battery"].startswith("battery cellar: it holds 77 W. It is left to itself")
    house.live(2.0)
    assert "dis_w" not in own_flex(house)
    assert points(house.live(55.0)) == []
    assert points(house.live(4.0)) == [0]
    house.do(PointSet("cellar", 0, ""))
    assert "battery" not in house.alerts
    assert points(house.live(2.0))[-1] == 1000


def test_a_battery_that_reads_back_right_and_gives_nothing_is_offered_to_nobody():
    house = House(cellar(0), battery=BATTERY)
    for _ in range(int(RAMP_S + OFF_S) + 10):
        for watts in points(house.live(1.0)):
            house.do(PointSet("cellar", watts, ""))
    assert house.alerts["battery"].startswith("battery cellar does not follow: it holds 1000 W, and 0 W is what its meter shows.")
    house.live(8.0)
    offer = own_flex(house)
    assert (offer.get("dis_w"), offer.get("chg_w"), offer["soc_wh"]) == (None, None, 5000)
    assert (house.balance["applied_w"], points(house.live(60.0))) == (0, [])


def test_a_battery_that_gives_what_it_holds_is_trusted():
    house = House(cellar(0), battery=BATTERY)
    for _ in range(int(RAMP_S + OFF_S) + 10):
        for watts in points(house.live(1.0)):
            house.do(PointSet("cellar", watts, ""))
            house.reads = cellar(-watts)
    assert "battery" not in house.alerts
    assert (house.balance["applied_w"], own_flex(house)["dis_w"]) == (1000, 3000)


@pytest.mark.parametrize(("hz", "astray"), [(50.0, True), (49.7, False)])
def test_on_an_island_of_its_own_droop_may_be_why_a_battery_does_otherwise(hz, astray):
    """Nobody is heard and the frequency is off for seconds; after that nobody knows it."""
    house = House(cellar(0), battery=BATTERY, hertz_meter="main")
    for _ in range(6):
        house.live(0.5)
        house.do(Hertz(hz))
    for _ in range(int(RAMP_S + OFF_S) + 40):
        for watts in points(house.live(1.0)):
            house.do(PointSet("cellar", watts, ""))
    assert house.balance["island"] is not astray
    assert ("battery" in house.alerts) is astray


def test_one_whose_meter_is_slow_has_longer():
    slow = replace(CELLAR, every_s=30.0)
    house = House(cellar(0), battery=BATTERY, meters=(MAIN, slow))
    assert house.node.balance.steer is not None
    assert house.node.balance.steer.follow.meter_s == 30.0


def test_of_a_battery_that_does_not_say_how_full_it_is_nothing_is_asked():
    house = House({"main": {"w": 1000}, "cellar": {"w": 0}}, battery=BATTERY)
    assert points(house.live(10.0)) == []
    assert "dis_w" not in own_flex(house)
    assert points(house.do(Stopping())) == []


def test_a_battery_by_its_own_rules_is_never_written_to():
    house = House(cellar(0), battery=Battery("cellar", 3000, 10_000), loads=(HEATER,))
    effects = house.live(20.0, hill=street(9000, 100))
    assert points([*effects, *house.do(PointSet("cellar", 5, "x")), *house.do(Stopping())]) == []
    assert house.balance["applied_w"] is None
