"""An island of nodes that hear nothing: what all together do to the frequency, each by its own meter."""

import pytest

from agent.dispatch import Flex
from agent.local import Frequency, Local
from agent.switches import Load, Switches

EUROPE = Frequency.of(50)
DAY = 20_000


class Plant:
    """One generator with spinning mass: df/dt = f0 * dP / (2 H S), H = 3 s. It follows the load while it can, 2 s behind."""

    def __init__(self, count: int, most_w: int, battery_w: int = 0) -> None:
        self.hz, self.most_w, self.now, self.power_w = 50.0, most_w, 0.0, 0.0
        battery = {"dis_w": battery_w, "chg_w": battery_w, "soc_wh": 1 << 20, "cap_wh": 2 << 20, "ttg_s": 9999}
        self.flex = Flex((250, 250, 250, 250), **(battery if battery_w else {}))
        self.locals = [Local(f"n{number}", EUROPE) for number in range(count)]
        loads = [Load(f"l{each}", each, 250) for each in range(4)]
        self.relays = [Switches.of(loads, -99.0) for _ in range(count)]
        self.rated_w = 1000.0 * count
        self.lowest = 50.0
        self.closings: list[float] = []

    def load_w(self) -> float:
        return sum(250.0 for relays in self.relays for one in relays.switches.values() if one.on)

    def run(self, seconds: float, tick_s: float = 0.2) -> None:
        for _ in range(round(seconds / tick_s)):
            self.now += tick_s
            load_w, battery_w = self.load_w() * (1 + 0.02 * (self.hz - 50)), 0
            for local, relays in zip(self.locals, self.relays, strict=True):
                done = local.step(self.flex, relays.opened(), self.hz, 0, None, "island", DAY, self.now)
                battery_w += done.battery_w
                turns = relays.step(done.open, done.hold, done.urgent, self.now)
                self.closings += [self.now for one in turns if one.on]
            target_w = max(0.0, load_w - battery_w + self.rated_w * (50.0 - self.hz) / 2.5)
            self.power_w = min(self.most_w, self.power_w + (target_w - self.power_w) * min(1.0, tick_s / 0.5))
            self.hz += 50 * (self.power_w + battery_w - load_w) / (2 * 3 * self.rated_w) * tick_s
            self.lowest = min(self.lowest, self.hz)


def test_a_lost_generator_is_survived_and_everything_returns_staged():
    plant = Plant(12, 15_000)
    plant.run(30)
    assert plant.closings == []
    plant.most_w = 8_400  # 12 kW wanted
    plant.run(60)
    assert plant.lowest > 47.5
    assert 5_000 <= plant.load_w() <= 8_700
    plant.most_w = 15_000
    plant.run(400)
    assert plant.load_w() == 12_000
    assert plant.lowest > 47.5
    assert plant.hz == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize("most_w", [4250, 4490])  # with and without a remainder that no block fits
def test_a_lasting_deficit_makes_no_oscillation(most_w):
    plant = Plant(6, most_w)  # 6 kW wanted, 24 relays
    plant.run(2100, 0.5)
    assert plant.lowest > 47.2
    early, late = (sum(low <= now < low + 700 for now in plant.closings) for low in (0, 1400))
    assert late <= 10  # a relay tries about once in half an hour
    assert late * 2 <= early
    plant.most_w = 9_000
    plant.run(810, 0.5)
    assert plant.load_w() == 6_000


def test_batteries_alone_hold_a_small_deficit_without_opening_anything():
    plant = Plant(10, 9_000, battery_w=500)
    plant.run(120)
    assert plant.load_w() == 10_000
    assert plant.lowest > 49.0
