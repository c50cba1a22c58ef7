"""Curves of a simulated house: flows that balance, dials that count what they show, faces that are consistent."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.curves import DAY_S, Dial, Household, face, random_walk
from drivers.reading import QUANTITIES

HOME = Household(seed=3, load_peak_w=2000, pv_peak_w=5000, battery_w=1000, battery_wh=6000)
households = st.builds(
    Household, st.integers(0, 99), st.integers(0, 20_000), st.integers(0, 20_000), st.integers(0, 9000), st.integers(0, 20_000)
)
times = st.floats(0, 400 * DAY_S)


@given(households, times)
def test_the_flows_are_a_function_of_seed_and_time_and_balance(home, time_s):
    flows = home.at(time_s)
    assert flows == Household(home.seed, home.load_peak_w, home.pv_peak_w, home.battery_w, home.battery_wh).at(time_s)
    assert 0 <= flows.load_w <= home.load_peak_w
    assert 0 <= flows.pv_w <= home.pv_peak_w
    assert abs(flows.battery_w) <= home.battery_w
    assert 0 <= flows.soc_pct <= 100
    assert flows.grid_w == flows.load_w - flows.pv_w + flows.battery_w


def test_a_day_has_a_night_a_noon_and_an_evening():
    hours = [HOME.at(hour * 3600) for hour in range(24)]
    assert [flows.pv_w for flows in hours[:7] + hours[20:]] == [0] * 11
    assert max(flows.pv_w for flows in hours[11:16]) > 2500
    # at 19 h, half an hour before the peak: (0.1 + 0.5 e^-(0.5/1.7)^2) 2000 W less 3 %
    # at 3 h: at most the base of a tenth and an appliance of 0.4, plus 3 %
    assert hours[19].load_w > 0.53 * 2000
    assert hours[3].load_w < 0.53 * 2000
    # 6000 Wh allow 1000 W for four hours (1500 W would be the limit): 4000 of 6000 Wh
    assert [flows.battery_w for flows in hours] == [0] * 10 + [1000] * 4 + [0] * 4 + [-1000] * 4 + [0] * 2
    assert [hours[hour].soc_pct for hour in (10, 12, 16, 20, 22)] == [0.0, 33.3, 66.7, 33.3, 0.0]


def test_seeds_and_days_differ():
    noons = {(seed, day): Household(seed, 2000, 5000).at((day + 0.5) * DAY_S) for seed in range(3) for day in range(3)}
    assert len({(flows.load_w, flows.pv_w) for flows in noons.values()}) == 9


@given(st.lists(st.integers(-5000, 5000), min_size=1), st.floats(0.001, 1000))
def test_a_dial_counts_the_watts_that_it_showed(watts, step_s):
    dial, counted = Dial(lambda step: watts[min(step, len(watts) - 1)], step_s, 100, 200), []
    for step in range(len(watts)):
        dial.advance(step)
        assert dial.w == watts[step]
        counted.append((dial.import_wh, dial.export_wh))
    assert counted[0] == (100, 200)
    assert counted == sorted(counted)
    exact_wh = sum(max(w, 0) for w in watts[:-1]) * round(step_s * 1000) / 3_600_000
    assert dial.import_wh - 100 == pytest.approx(exact_wh, abs=1)
    dial.advance(0)
    assert (dial.import_wh, dial.export_wh) == counted[-1]


def test_a_dial_by_hand():
    """3600 W for 10 s are 10 Wh; -1800 W for 20 s are 10 Wh the other way."""
    dial = Dial(lambda step: [3600, -1800, -1800, 0][step], 10, 0, 0)
    dial.advance(3)
    assert (dial.w, dial.import_wh, dial.export_wh) == (0, 10, 10)


def test_a_leap_of_the_clock_is_neither_counted_nor_waited_for():
    dial = Dial(lambda step: 3600, 10, 0, 0)
    dial.advance(10**12)
    assert dial.import_wh == 0
    dial.advance(10**12 + 1)
    assert dial.import_wh == 10


def test_a_walk_is_seeded_and_its_steps_are_small():
    a, b = random_walk("x", 1200, 50), random_walk("x", 1200, 50)
    walked = [a(step) for step in range(2000)]
    assert walked[0] == 1200
    assert walked == [b(step) for step in range(2000)]
    assert a(5) == walked[1999]
    assert len(set(walked)) > 100
    assert max(abs(p - q) for p, q in pairwise(walked)) <= 50
    assert max(abs(w - 1200) for w in walked) <= 1000


@pytest.mark.parametrize(("w", "phases"), [(3001, 3), (-2999, 3), (7, 1), (0, 3)])
def test_the_face_of_a_meter_is_consistent(w, phases):
    values = face(Dial(lambda step: w, 10, 5, 6), phases, "seed", 4, 60.0, 50.01)
    assert set(values) == set(QUANTITIES)
    assert values["w_l1"] + values["w_l2"] + values["w_l3"] == w
    assert values["a_l1"] == pytest.approx(abs(values["w_l1"]) / values["v_l1"], abs=0.001)
    assert phases == 3 or values["w_l1"] == w
    assert (values["import_wh"], values["export_wh"], values["soc_pct"], values["hz"]) == (5, 6, 60.0, 50.01)
    assert all(228 <= values[f"v_l{phase}"] <= 232 for phase in (1, 2, 3))
