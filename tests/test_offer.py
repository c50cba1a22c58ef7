"""What a node offers: watts by hand for each kind of house, and what of it is believed."""

import json

import pytest
from fleet import UNIX_S, settings
from hypothesis import given
from hypothesis import strategies as st

from agent import offer, wire
from agent.decode import decode
from agent.dispatch import Flex
from agent.offer import Battery, Feeder
from agent.own import MeterSlot, Own
from agent.switches import Load, Switches
from drivers.reading import Account, Reading

MAIN, ROOF = MeterSlot("main", "grid", 1.0), MeterSlot("roof", "pv", 1.0)
CELLAR, SET, STREET = MeterSlot("cellar", "battery", 1.0), MeterSlot("set", "generator", 1.0), MeterSlot("street", "grid", 1.0)
BATTERY = Battery("cellar", 3000, 10_000, written=True)
GRID, GENERATOR = Feeder("street", "grid", 30_000, 20_000), Feeder("set", "generator", 8000)
LOADS = (Load("boiler", 2, 1000), Load("heater", 3, 2000))


def house(readings: dict[str, dict[str, float] | None], *slots: MeterSlot, **more) -> Own:
    """All meters read once at 10 s; None: it failed."""
    made = Own(settings("me", meters=slots, **more), "x")
    made.start(0, 0.0)
    for name, values in readings.items():
        made.read(name, Reading("good", "", values) if values is not None else Reading("absent", "no", {}), UNIX_S, 10.0)
    return made


def offered(own: Own, switches: Switches | None = None, applied_w: int = 0, trusted: bool = True, now: float = 10.0) -> Flex:
    load = offer.loads(own, switches if switches is not None else Switches(), now)
    return offer.flex(own, load, applied_w, trusted)


def test_a_plain_house_wants_what_it_draws():
    assert offered(house({"main": {"w": 1196}}, MAIN)) == Flex((1196, 0, 0, 0))
    # 4870 W of sun, 3674 W go out
    assert offered(house({"main": {"w": -3674}, "roof": {"w": -4870}}, MAIN, ROOF)) == Flex((1196, 0, 0, 0), pv_w=4870)
    assert offered(house({"main": None}, MAIN)) == Flex((0, 0, 0, 0))


def test_relays_make_classes_and_draw_no_more_than_is_measured():
    relays = Switches.of(LOADS, 0.0)
    # 3500 W: the boiler its 1000, the heater its 2000, the rest nobody switches
    assert offered(house({"main": {"w": 3500}}, MAIN), relays).load == (500, 0, 1000, 2000)
    # 1300 W: the boiler before the heater, and nothing is left for others
    assert offered(house({"main": {"w": 1300}}, MAIN), relays).load == (0, 0, 1000, 300)
    relays.switches["heater"].turn(False, "plan", 10.0)
    # open, it would draw what it drew last; 1000 W are measured now
    assert offered(house({"main": {"w": 1000}}, MAIN), relays).load == (0, 0, 1000, 300)
    # of a base that is not known only what relays switch
    assert offered(house({"main": None}, MAIN), relays).load == (0, 0, 1000, 300)


def test_a_loads_own_meter_is_believed_and_the_rest_shared_out():
    relays = Switches.of(LOADS, 0.0)
    relays.measure("heater", 1800)
    own = house({"main": {"w": 2500}}, MAIN, load_meters={"warm": "heater"})
    assert offered(own, relays).load == (0, 0, 700, 1800)  # 2500 - 1800


def test_nobody_offers_more_than_the_connection_carries():
    relays = Switches.of((Load("oven", 1, 9000), Load("kiln", 3, 9000)), 0.0)
    relays.switches["kiln"].turn(False, "plan", 10.0)
    own = house({"main": {"w": 9000}}, MAIN)
    assert offered(own, relays).load == (0, 9000, 0, 3000)  # of 10 kW, and 20 % more


@pytest.mark.parametrize(
    ("battery_w", "main_w", "load_w", "sun_w"),
    [
        (0, 500, 500, 0),
        (2000, 2500, 500, 0),  # it charges: not wanted, commanded
        (-1500, -1000, 500, 0),  # it gives: no sunshine
    ],
)
def test_a_battery_that_follows_set_points_is_no_part_of_the_base(battery_w, main_w, load_w, sun_w):
    readings = {"main": {"w": main_w}, "cellar": {"w": battery_w, "soc_pct": 55.0}}
    own = house(readings, MAIN, CELLAR, battery=BATTERY)
    # 5500 Wh of 10,000: 5500 * 3600 / 3000 = 6600 s
    expected = Flex((load_w, 0, 0, 0), sun_w, dis_w=3000, chg_w=3000, ttg_s=6600, soc_wh=5500, cap_wh=10_000, applied_w=-battery_w)
    assert offered(own, applied_w=-battery_w) == expected


def test_what_a_battery_can_do_by_how_full_it_is():
    def at(soc_pct: float | None, **more) -> Flex:
        values = {"w": 0} if soc_pct is None else {"w": 0, "soc_pct": soc_pct}
        own = house({"main": {"w": 0}, "cellar": values}, MAIN, CELLAR, battery=more.pop("battery", BATTERY))
        return offered(own, **more)

    assert (at(0.0).dis_w, at(0.0).chg_w) == (0, 3000)
    assert (at(0.2).dis_w, at(0.2).soc_wh) == (1200, 20)  # 20 Wh give 1200 W for a minute
    assert (at(100.0).dis_w, at(100.0).chg_w, at(100.0).ttg_s) == (3000, 0, 12_000)
    assert at(130.0).soc_wh == 10_000
    assert at(None) == Flex((0, 0, 0, 0))  # nobody knows
    assert at(50.0, trusted=False) == Flex((0, 0, 0, 0), soc_wh=5000, cap_wh=10_000)
    own_rules = Battery("cellar", 3000, 10_000)
    assert at(50.0, battery=own_rules) == Flex((0, 0, 0, 0), soc_wh=5000, cap_wh=10_000)
    assert at(50.0, battery=Battery("cellar", 50_000, 10_000, written=True)).dis_w == 12_000  # of 10 kW, and 20 % more


def test_a_battery_by_its_own_rules_is_part_of_the_base():
    readings = {"main": {"w": -1000}, "cellar": {"w": -1500, "soc_pct": 50.0}}
    own = house(readings, MAIN, CELLAR, battery=Battery("cellar", 3000, 10_000))
    assert offered(own) == Flex((500, 0, 0, 0), pv_w=1500, soc_wh=5000, cap_wh=10_000)


def test_the_coupling_to_the_grid_is_everybodys():
    own = house({"main": {"w": 400}, "street": {"w": 21_000}}, MAIN, STREET, feeder=GRID)
    assert own.account == Account(0, 400, "good", "")
    assert offered(own) == Flex((400, 0, 0, 0), firm_w=30_000, slack_w=21_000, export_w=20_000)
    assert offered(house({"main": {"w": 400}, "street": None}, MAIN, STREET, feeder=GRID)).slack_w is None
    assert offered(house({"main": {"w": 400}, "street": {"hz": 50.0}}, MAIN, STREET, feeder=GRID)).slack_w is None
    alone = house({"street": {"w": -7}}, STREET, feeder=GRID)
    assert alone.account == Account(0, 0, "good", "")
    assert offered(alone) == Flex((0, 0, 0, 0), firm_w=30_000, slack_w=-7, export_w=20_000)


def test_the_generator_is_a_part_of_its_house():
    # it makes 5000 W, 4600 W go out, 400 W are used
    own = house({"main": {"w": -4600}, "set": {"w": -5000}}, MAIN, SET, feeder=GENERATOR)
    assert own.account == Account(5000, 400, "good", "")
    assert offered(own) == Flex((400, 0, 0, 0), firm_w=8000, slack_w=5000)
    # it stands and takes 60 W for itself: its own matter, and seen as its slack
    standing = house({"main": {"w": 460}, "set": {"w": 60}}, MAIN, SET, feeder=GENERATOR)
    assert offered(standing) == Flex((400, 0, 0, 0), firm_w=8000, slack_w=-60)


def test_the_keys_of_the_record():
    own = house({"main": {"w": 1196}}, MAIN)
    said = offer.keys(offered(own), None, "00ff")
    assert json.dumps(said) == '{"load": [1196, 0, 0, 0], "digest": "00ff"}'
    flex = Flex((1, 2, 3, 4), 5, 6, 7, 8, 9, 10, 11, -12, 0, 0)
    keys = ["load", "pv_w", "dis_w", "chg_w", "ttg_s", "soc_wh", "cap_wh", "firm_w", "applied_w", "slack_w", "export_w", "kind"]
    assert list(offer.keys(flex, GRID, "00ff")) == [*keys, "digest"]


NUMBERS = st.integers(0, wire.MAX_W)
FLEXES = st.builds(
    Flex,
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    *[NUMBERS] * 7,
    applied_w=st.integers(-wire.MAX_W, wire.MAX_W),
    slack_w=st.none() | st.integers(-wire.MAX_W, wire.MAX_W),
    export_w=st.none() | NUMBERS,
)


@given(FLEXES, st.sampled_from([None, GRID, GENERATOR]))
def test_what_is_said_is_what_is_heard(flex, feeder):
    keys = {"quality": "good", "zone": "z", "rated_w": 1, "version": 1, "flex": offer.keys(flex, feeder, "00ff")}
    state = decode(wire.place("grid/node/a/state"), wire.encode(keys))
    assert isinstance(state, wire.State)
    assert state.flex is not None
    assert state.flex.kind == (feeder.kind if feeder is not None else None)
    heard = offer.offered(state.flex)
    if feeder is None:  # nobody else has anything firm, or sees the slack
        assert (heard.firm_w, heard.slack_w, heard.export_w) == (0, None, None)
    else:
        assert heard == flex


def test_what_is_believed():
    def flex(**more) -> wire.Flex:
        return wire.Flex(**({"load": (0, 0, 0, 0)} | more))

    assert offer.believed(flex(load=(600, 0, 0, 600), pv_w=1200, dis_w=1200, chg_w=1200, applied_w=-1200), 1000)
    for beyond in ({"load": (600, 0, 0, 601)}, {"pv_w": 1201}, {"dis_w": 1201}, {"chg_w": 1201}, {"applied_w": -1201}):
        assert not offer.believed(flex(**beyond), 1000), beyond
    assert offer.believed(flex(firm_w=10**6, slack_w=10**6, export_w=10**6), 1000)  # the feeder carries more than a house


def test_what_is_worth_a_record():
    base = Flex((1000, 0, 0, 500), pv_w=100, dis_w=50, chg_w=60, soc_wh=5, slack_w=10)
    for same in (Flex((1010, 0, 0, 490), 110, 40, 70, 0, 999, 999, slack_w=0), base):
        assert not offer.apart(same, base, 10)
    for other in (
        Flex((1000, 0, 11, 500), 100, 50, 60, slack_w=10),
        Flex((1000, 0, 0, 500), 111, 50, 60, slack_w=10),
        Flex((1000, 0, 0, 500), 100, 39, 60, slack_w=10),
        Flex((1000, 0, 0, 500), 100, 50, 71, slack_w=10),
        Flex((1000, 0, 0, 500), 100, 50, 60, slack_w=21),
        Flex((1000, 0, 0, 500), 100, 50, 60, slack_w=None),
    ):
        assert offer.apart(other, base, 10), other
