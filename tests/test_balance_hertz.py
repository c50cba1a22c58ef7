"""The frequency alone: it sheds at once, restores in stages, and says when a node is on an island."""

from fleet import UNIX_S
from house import HEATER, House, switched

from agent.events import Hertz, Status
from agent.local import Frequency, shed_below_mhz


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


def test_the_day_says_at_which_frequency_it_is_our_turn():
    rule, day = Frequency.of(50), int(UNIX_S // 86_400)
    below_mhz = shed_below_mhz("me", day, 3, rule)
    assert below_mhz != shed_below_mhz("me", 0, 3, rule)
    house = House(loads=(HEATER,), hertz_meter="main")
    house.live(3.0)
    assert switched(house.do(Hertz(50.0 - (below_mhz - 1) / 1000))) == []
    assert switched(house.do(Hertz(50.0 - below_mhz / 1000))) == [("heater", False)]


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
