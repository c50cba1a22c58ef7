"""Balance in a node: the plan reaches its relays, what stands in its way is told, and an island has its price."""

import json

import pytest
from desk import info, published, state
from fleet import TARIFF, UNIX_S
from house import DIGEST, HEATER, House, flex, own_flex, street, switched

from agent.accounts import settle
from agent.balance import CALM_S, GONE_S, HELD_S, _ages
from agent.dispatch import Settings
from agent.events import Complain, Hertz, Metered, Publish, SetLoad, Status
from agent.guards import BACK_S, SLACK_S, WARM_S
from agent.switches import Load
from drivers.reading import Reading

# ---- what the record says


def test_a_plain_node_tells_its_load_once_somebody_has_a_feeder():
    house = House()
    house.live(10.0)
    assert own_flex(house) is None
    house.live(6.0, hill=street(1000, 5000))
    assert own_flex(house) == {"load": [2500, 0, 0, 0], "digest": DIGEST}
    assert house.balance["why"] == "nothing here to switch or to steer"
    assert "balance" not in house.alerts


def test_a_node_with_a_load_tells_it_at_once_and_each_change_of_it():
    house = House({"main": {"w": 2500}, "warm": {"w": 1900}}, loads=(HEATER,), load_meters={"warm": "heater"})
    house.live(3.0)
    assert own_flex(house) == {"load": [600, 0, 0, 1900], "digest": DIGEST}
    house.reads["warm"] = {"w": 1700}  # the sum stays the same
    effects = house.live(1.0)
    assert json.loads(published(effects, "grid/node/me/state")["grid/node/me/state"])["flex"]["load"] == [800, 0, 0, 1700]


def test_the_frequency_is_told():
    house = House(loads=(HEATER,), hertz_meter="main")
    house.live(2.0)
    assert "hz" not in json.loads(house.told["grid/node/me/state"])
    house.reads["main"]["hz"] = 49.987
    house.live(6.0)
    assert json.loads(house.told["grid/node/me/state"])["hz"] == 49.987
    house.do(Hertz(50.012))
    assert house.balance["hz"] == 50.012
    house.do(Hertz(None))
    assert house.balance["hz"] == 50.012  # one of many that failed
    del house.reads["main"]["hz"]
    house.live(2.5)
    assert house.balance["hz"] is None


# ---- by the plan


def test_what_the_feeder_cannot_carry_is_shed_here():
    house = House(loads=(HEATER,))
    # 2500 W here and 1500 there, 2900 may come in: 1100 too much, and half the heater is 1000
    others = {
        "hill": street(4000, 2900) | {"consumed_w": 1500, "flex": flex(1500, 0, 0, 0, firm_w=2900, kind="grid", slack_w=4000)}
    }
    effects = house.live(12.0, **others)
    assert switched(effects) == [("heater", False)]
    assert [effect.text for effect in effects if isinstance(effect, Complain) and "load" in effect.text] == [
        "load heater off: plan"
    ]
    house.reads["main"] = {"w": 500}
    house.live(10.0, **others)
    assert own_flex(house) == {"load": [500, 0, 0, own_flex(house)["load"][3]], "digest": DIGEST}
    assert 1990 <= own_flex(house)["load"][3] <= 2000  # it would still draw that
    row = house.ask(Status())["loads"]["heater"]
    assert (row["on"], row["wanted"], row["why"]) == (False, False, "plan")
    assert (house.balance["plan"], house.balance["why"], house.balance["feeder"], house.balance["mode"]) == (
        True,
        "",
        ["hill"],
        "tied",
    )
    # there is room again, with a margin
    more = {"hill": street(2000, 6000) | {"consumed_w": 1500, "flex": flex(1500, 0, 0, 0, firm_w=6000, kind="grid", slack_w=2000)}}
    assert switched(house.live(10.0, **more)) == [("heater", True)]
    assert house.ask(Status())["loads"]["heater"]["why"] == "plan"


def test_nothing_is_shed_on_a_table_that_is_not_complete():
    house = House(loads=(HEATER,))
    house.hear("$grid/in/b/pine/info", b'{"siblings":{},"version":1}')
    house.hear("$grid/in/b/pine/state", state(1, 0, 500))  # it is known, and silent
    full = {"hill": street(2500, 1400)}
    assert switched(house.live(WARM_S - 5.0, **full)) == []
    assert house.balance["why"] == "warming up: 2 of 3 nodes heard"
    assert "balance" not in house.alerts
    # the coupling carries more than it may: the wires agree
    assert switched(house.live(20.0, **full)) == [("heater", False)]


def test_a_persons_word_stands_above_the_plan():
    house = House(loads=(HEATER,))
    house.live(3.0)
    house.ask(SetLoad("heater", "on"))
    assert switched(house.live(12.0, hill=street(4000, 100))) == []
    assert house.ask(Status())["loads"]["heater"]["wanted"] is True


def test_the_slack_meter_falls_silent_and_comes_back():
    house = House(loads=(HEATER,))
    house.hear("$grid/in/b/hill/info", info(1))
    room = {"hill": street(2500, 9000)}
    house.live(5.0, **room)
    assert house.balance["plan"]  # at the start there is nothing to wait for but all to be heard
    house.live(SLACK_S + 2.0)
    assert not house.balance["plan"]
    assert "balance" not in house.alerts
    effects = house.live(CALM_S + 10.0)
    text = house.alerts["balance"]
    assert text.startswith("the plan of balance is not applied: the slack meter of hill is silent for ")
    assert [effect.topic for effect in effects if isinstance(effect, Publish)].count("grid/alert/balance") == 1  # not each second
    house.live(8.0, **room)
    assert "waiting whether it stays" in house.alerts["balance"]
    house.live(9.0, **room)
    assert "balance" not in house.alerts
    assert house.balance["plan"]


def test_after_ten_minutes_only_the_slack_meter_knows_a_silent_node():
    house = House(loads=(HEATER,))
    house.live(6.0, hill=street(2500, 9000), pine={"consumed_w": 500, "flex": flex(500, 0, 0, 0)})
    assert set(house.node.balance.zone.known) == {"me", "hill", "pine"}
    assert set(_ages(house.node, house.now + GONE_S - 10.0)) == {"me", "hill", "pine"}
    assert set(_ages(house.node, house.now + GONE_S)) == set()


def test_an_old_copy_that_wanders_in_is_no_life():
    house = House(loads=(HEATER,))
    room = {"hill": street(2500, 9000)}
    house.live(12.0, **room)
    house.live(SLACK_S + 2.0)
    house.say("hill", **room["hill"])
    house.live(1.0)
    assert house.balance["why"] == "the slack meter of hill is silent for 600 s"
    house.say("hill", **room["hill"])
    house.live(1.0)
    assert "waiting" in house.balance["why"]


def test_whose_changes_the_slack_meter_does_not_see_is_named_and_counts_less(monkeypatch):
    monkeypatch.setattr("agent.doubt.WINDOW_S", 10)
    house = House(loads=(HEATER,))
    for step in range(40):
        pine_w = 300 * (step % 2)
        told = {"consumed_w": 10 * pine_w, "flex": {"load": [10 * pine_w, 0, 0, 0], "digest": DIGEST}}
        house.live(10.0, hill=street(2500 + pine_w, 9000), pine=told)
    text = house.alerts["balance-doubt"]
    assert text == (
        "the slack meter sees only a part of what changes there: pine 10 %. It is planned with that part. "
        "Check its meter: direction, transformer ratio"
    )
    assert abs(house.balance["closure_w"]) < 300  # of the 2700 W that are not there
    house.live(70.0, hill=street(2500, 9000))  # it is silent, and no longer planned with
    assert "balance-doubt" not in house.alerts


def test_whoever_has_other_settings_is_named_and_not_planned_with():
    house = House(loads=(HEATER,))
    odd = {"consumed_w": 500, "flex": {"load": [500, 0, 0, 0], "digest": "other"}}
    house.live(10.0, hill=street(2500, 9000), pine=odd, **{f"oak{each:02d}": odd for each in range(11)})
    text = house.alerts["balance-others"]
    assert text.startswith("oak00, oak01, ")
    assert " oak09 and 2 more: other settings of balance than ours" in text
    assert "balance" not in house.alerts
    house.live(10.0, hill=street(2500, 9000), pine={"consumed_w": 500, "flex": flex(500, 0, 0, 0)})
    assert house.alerts["balance-others"].startswith("oak00")
    house.live(10.0, hill=street(2500, 9000))  # the others are silent
    assert "balance-others" not in house.alerts
    ours = House(loads=(HEATER,), rules=Settings(margin_pm=20))
    ours.live(CALM_S + 5.0, hill=street(2500, 9000))
    assert "hill, which has the slack meter, has another configuration" in ours.alerts["balance"]


def test_two_that_say_what_the_zone_hangs_on():
    house = House(loads=(HEATER,))
    house.live(12.0, hill=street(2500, 9000), mill=street(2500, 9000))
    assert house.balance["plan"]
    house.live(CALM_S + 5.0, hill=street(2500, 9000), mill=street(0, 9000, "generator"))
    assert (
        house.alerts["balance"]
        == "the plan of balance is not applied: the zone cannot hang on both: hill says grid, mill says generator. "
        "Until it is, this node goes by its own meters"
    )
    house.live(BACK_S, hill=street(2500, 9000), mill=street(2500, 9000))
    assert "waiting whether it stays" in house.balance["why"]
    house.live(4.0, hill=street(2500, 9000), mill=street(2500, 9000))
    assert house.balance["plan"]


@pytest.mark.parametrize("planned_s", [12.0, 2.0])
def test_a_feeder_that_comes_and_goes_must_stay_before_there_is_a_plan_again(planned_s):
    house, room = House(loads=(HEATER,)), {"hill": street(2500, 9000)}
    while not house.balance["plan"]:
        house.live(0.25, **room)
    house.live(planned_s, **room)
    assert house.balance["plan"]
    house.live(4.0, hill=room["hill"] | {"consumed_w": 30_000})  # more than its connection carries: it is not believed
    assert house.balance["why"] == "nobody in this zone has a [feeder]"
    house.live(BACK_S - 4.0, **room)
    assert (house.balance["plan"], house.balance["why"]) == (False, "the slack meter is heard again; waiting whether it stays")
    house.live(8.0, **room)
    assert house.balance["plan"]


def test_without_a_feeder_there_is_no_plan_and_nothing_to_worry_about():
    house = House(loads=(HEATER, Load("horn", 3, 10, safe_on=False)))
    assert switched(house.live(CALM_S + 10.0)) == [("horn", True)]
    assert house.ask(Status())["loads"]["horn"]["why"] == "no plan"
    assert (house.balance["plan"], house.balance["why"]) == (False, "nobody in this zone has a [feeder]")
    assert not {"balance", "balance-others"} & house.alerts.keys()
    assert house.balance["battery_w"] is None


def test_while_a_switch_settles_the_base_is_the_one_before():
    house = House(loads=(HEATER,))
    house.live(3.0)
    house.ask(SetLoad("heater", "off"))
    house.live(18.0)  # 10 s on at least, then 10 s off
    assert house.node.switches.outputs == {"heater": False}
    house.reads["main"] = {"w": 500}
    house.live(4.0)
    assert own_flex(house)["load"] == [500, 0, 0, 0]  # nobody wants it
    house.ask(SetLoad("heater", "auto"))
    assert house.node.switches.outputs == {"heater": True}
    house.live(2.0)
    assert own_flex(house)["load"] == [500, 0, 0, 0]  # the meter does not show it yet
    house.reads["main"] = {"w": 2500}
    house.live(4.0)
    assert own_flex(house)["load"] == [500, 0, 0, 2000]


def test_no_base_is_older_than_half_a_minute_however_often_something_is_switched():
    house = House(loads=(HEATER,))
    house.live(3.0)
    house.reads["main"] = {"w": 900}
    for second in range(int(HELD_S) + 3):
        house.node.balance.settle(house.now)
        house.live(1.0)
        if second < HELD_S - 3:
            assert own_flex(house)["load"] == [500, 0, 0, 2000]
    assert own_flex(house)["load"] == [0, 0, 0, 900]


@pytest.mark.parametrize(("quality", "settles", "watts"), [("good", False, 50), ("suspect", False, 1900), ("good", True, 1900)])
def test_a_loads_own_meter_counts_while_it_reads_well_and_nothing_was_just_switched(quality, settles, watts):
    house = House({"main": {"w": 2500}, "warm": {"w": 1900}}, loads=(HEATER,), load_meters={"warm": "heater"})
    house.live(3.0)
    if settles:
        house.node.balance.settle(house.now)
    house.do(Metered("warm", Reading(quality, "why", {"w": 50})))
    assert house.node.switches.switches["heater"].drawn_w == watts


# ---- the price in an island


def test_in_an_island_the_price_follows_what_is_wanted_and_could_be_made():
    house = House({"main": {"w": 2000}})
    # 2000 + 1000 wanted of 3750: 0.8, half way from the floor 0 to the cap 1,000,000
    mill = street(3000, 3750, "generator") | {"produced_w": 3000, "consumed_w": 1000}
    mill["flex"] |= {"load": [1000, 0, 0, 0]}
    house.live(8.0, mill=mill)
    assert (house.summary["live_u"], house.summary["live_sell_u"], house.summary["price_u"]) == (500_000, 500_000, 500_000)
    assert house.summary["rule"] == "island/1"
    first = house.summary["digest"]
    mill["flex"] |= {"load": [2500, 0, 0, 0]}
    house.live(3.0, mill=mill)
    assert house.summary["live_u"] == 1_000_000  # somebody goes without
    assert house.summary["digest"] != first
    mill["flex"] |= {"kind": "grid"}
    house.live(3.0, mill=mill)
    assert house.summary["rule"] == "mmr/1"


def test_in_an_island_the_price_of_two_slots_ago_says_nothing():
    past = settle(int(UNIX_S // 900) - 2, "z", {"a": (1000, 0), "b": (0, 500)}, TARIFF)
    assert past is not None
    house = House({"main": {"w": 1000}}, past=(past,))
    house.live(3.0)
    # 500 of 1000 Wh at 190,000 and 500 at 300,000
    assert (house.summary["price_u"], house.summary["signal_u"]) == (245_000, 245_000)
    house.live(8.0, mill=street(1000, 9000, "generator"))
    assert (house.summary["price_u"], house.summary["signal_u"], house.summary["live_u"]) == (0, 245_000, 0)
