"""Balance in a node: the plan reaches relays and battery, and what stands in its way is told; then whole neighbourhoods."""

import json
from typing import Any

import pytest
from desk import Desk, info, published, state
from fleet import TARIFF, UNIX_S

from agent.balance import CALM_S, GONE_S, _ages
from agent.dispatch import Settings
from agent.events import (
    Complain,
    Effect,
    Hertz,
    Metered,
    PointSet,
    Publish,
    Quiet,
    SetLoad,
    SetPoint,
    Status,
    Stopping,
    Switch,
    Tick,
)
from agent.follow import OFF_S, RAMP_S
from agent.guards import BACK_S, SLACK_S, WARM_S, config_digest
from agent.offer import Battery
from agent.own import MeterSlot
from agent.settlement import settle
from agent.switches import Load
from drivers.reading import Reading

DIGEST = config_digest(Settings(), b"plan/1", b"50")
MAIN, CELLAR, SET = MeterSlot("main", "grid", 1.0), MeterSlot("cellar", "battery", 1.0), MeterSlot("set", "generator", 1.0)
WARM = MeterSlot("warm", "load", 1.0)
HEATER = Load("heater", 3, 2000)
BATTERY = Battery("cellar", 3000, 10_000, written=True)
AT = "2026-11-22T08:34:44Z"


def flex(*load: int, **more: Any) -> dict[str, Any]:
    return {"load": list(load) or [0, 0, 0, 0], "digest": DIGEST, **more}


class House(Desk):
    """A node whose meters read `reads`, by name."""

    def __init__(self, reads: dict[str, dict[str, float]] | None = None, **changes: Any) -> None:
        self.reads = reads if reads is not None else {"main": {"w": 2500}}
        self.versions: dict[str, int] = {}
        changes.setdefault("meters", tuple(slot for slot in (MAIN, CELLAR, SET, WARM) if slot.name in self.reads))
        super().__init__(**changes)

    def live(self, seconds: float, **others: dict[str, Any]) -> list[Effect]:
        """Tick on, read all meters each second; `others` say their state every 2 s, by way of the sibling b."""
        effects: list[Effect] = []
        for count in range(int(seconds * 4)):
            self.now += 0.25
            effects += self.do(Tick(UNIX_S + self.now - 1000.0))
            if count % 4 == 0:
                for name, values in self.reads.items():
                    effects += self.do(Metered(name, Reading("good", "", values)))
            if count % 8 == 0:
                for id_, keys in others.items():
                    self.say(id_, **keys)
            effects += self.do(Quiet())
        return effects

    def say(self, id_: str, **keys: Any) -> None:
        self.versions[id_] = self.versions.get(id_, 0) + 1
        self.hear(f"$grid/in/b/{id_}/state", state(self.versions[id_], **{"at": AT, "rated_w": 20_000, **keys}))

    @property
    def balance(self) -> dict[str, Any]:
        return self.ask(Status())["balance"]


def street(slack_w: int | None, firm_w: int, kind: str = "grid", **more: Any) -> dict[str, Any]:
    """What the node with the feeder says; of a generator its watts are in its account."""
    watts = {} if slack_w is None else {"slack_w": slack_w}
    produced_w = max(0, slack_w or 0) if kind == "generator" else 0
    return {"produced_w": produced_w, "flex": flex(firm_w=firm_w, kind=kind, **watts, **more)}


def switched(effects: list[Effect]) -> list[tuple[str, bool]]:
    return [(effect.name, effect.on) for effect in effects if isinstance(effect, Switch)]


def points(effects: list[Effect]) -> list[int]:
    return [effect.watts for effect in effects if isinstance(effect, SetPoint)]


def own_flex(house: Desk) -> dict[str, Any] | None:
    return json.loads(house.told["grid/node/me/state"]).get("flex")


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


def test_without_a_feeder_there_is_no_plan_and_nothing_to_worry_about():
    house = House(loads=(HEATER, Load("horn", 3, 10, safe_on=False)))
    assert switched(house.live(CALM_S + 10.0)) == [("horn", True)]
    assert house.ask(Status())["loads"]["horn"]["why"] == "no plan"
    assert (house.balance["plan"], house.balance["why"]) == (False, "nobody in this zone has a [feeder]")
    assert not {"balance", "balance-others"} & house.alerts.keys()
    assert house.balance["battery_w"] is None


# ---- by frequency


def test_the_frequency_sheds_at_once_and_restores_in_stages():
    house = House(loads=(HEATER,), hertz_meter="main")
    house.live(3.0)
    assert switched(house.do(Hertz(50.0))) == []
    assert switched(house.do(Hertz(47.9))) == [("heater", False)]
    assert house.node.whys["heater"] == "frequency"
    assert house.ask(Status())["loads"]["heater"]["wanted"] is False
    turns = []
    for _ in range(30):
        house.live(0.5)
        turns += switched(house.do(Hertz(50.0)))
    assert turns == []  # 5 s of calm, its class and its group come first
    for _ in range(240):
        turns += switched(house.live(0.5)) + switched(house.do(Hertz(50.0)))
    assert turns == [("heater", True)]
    assert house.node.whys["heater"] == "frequency"


def test_before_the_first_tick_and_without_anything_to_move_a_frequency_does_nothing():
    house = House(loads=(HEATER,), hertz_meter="main")
    assert switched(house.do(Hertz(47.0))) == []
    plain = House(hertz_meter="main")
    plain.live(3.0)
    assert switched(plain.do(Hertz(47.0))) == []


def test_alone_and_off_nominal_is_an_island():
    house = House(loads=(HEATER,), hertz_meter="main")
    for hz, island in ((50.0, False), (49.7, True)):
        for _ in range(6):
            house.live(0.5)
            house.do(Hertz(hz))
        assert house.balance["island"] is island
    company = House(loads=(HEATER,), hertz_meter="main")
    for _ in range(6):
        company.live(2.0, pine={"consumed_w": 500})
        company.do(Hertz(49.7))
    assert company.balance["island"] is False


# ---- the battery


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


def cellar(w: float, **more: float) -> dict[str, dict[str, float]]:
    return {"main": {"w": 1000 + w}, "cellar": {"w": w, "soc_pct": 50.0, **more}}


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
