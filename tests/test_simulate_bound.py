"""The bound of perfect foresight by hand and against the plain program, and the data that it is of."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import house

from agent.simulate import bound as bounds
from agent.simulate.bound import bound_wh
from agent.simulate.data import ETA, SLOTS, START_SOC, TICKS, number, pooled, synthetic, trips, weather
from agent.simulate.run import Setup, scene_of
from agent.simulate.simbench import DataMissing, folder, simbench

# the bound, by hand


@pytest.mark.parametrize(
    ("need_w", "power", "energy", "wh"),
    [
        ([100, 100, -50], [], [], 200.0),  # an hour a tick, no battery
        ([100], [60], [1000], 40.0),  # power is the limit
        ([100, 100], [100], [200], 200 - 100 * ETA),  # half of 200 Wh is in it, 95 Wh come out
        ([-100, 200], [200], [1000], 200 - min(200, (500 + 95) * ETA)),  # enough: 0
        ([-100, 500], [500], [200], 500 - (100 + 95) * ETA),  # 95 of 100 Wh go in, all of it is given
        ([-1000, 500], [500], [200], 500 - 200 * ETA),  # full at 200
        ([0, 0], [10], [10], 0.0),
    ],
)
def test_the_bound_by_hand(need_w, power, energy, wh):
    found = bound_wh(np.array(need_w, dtype=float), np.array(power, dtype=float), np.array(energy, dtype=float), 3600)
    assert found == pytest.approx(wh, abs=1e-6)


def test_two_batteries_of_other_duration_are_not_one():
    # 100 W each, 100 and 400 Wh half full: in one hour of 200 W the small one gives 47.5, the great one 100; in the second 90
    need = np.array([200.0, 200.0])
    found = bound_wh(need, np.array([100.0, 100.0]), np.array([100.0, 400.0]), 3600)
    assert found == pytest.approx(400 - 50 * ETA - 200 * ETA, abs=1e-6)
    assert pooled(need, 200.0, 500.0, 3600) <= found + 1e-9


@given(st.lists(st.integers(-500, 500), min_size=1, max_size=40), st.integers(0, 300), st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_with_one_battery_greedy_is_the_optimum(need, power, energy):
    exact = pooled(np.array(need, dtype=float), power, energy, 900)
    assert bound_wh(np.array(need, dtype=float), np.array([power], float), np.array([energy], float), 900) == pytest.approx(
        exact, abs=1e-4
    )


@given(
    st.lists(st.integers(-500, 500), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 600)), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_joining_ticks_to_runs_loses_nothing_worth_saying_and_never_raises_the_bound(need, batteries):
    """Against the plain program with a row for every tick."""
    from scipy.optimize import linprog

    power, energy = np.array([p for p, _ in batteries], float), np.array([e for _, e in batteries], float)
    hours, many, ticks = 0.25, len(batteries), len(need)
    # columns by tick: u, then out and in of each battery
    wide = 1 + 2 * many
    cost = np.tile([1.0] + [0.0] * 2 * many, ticks)
    rows, right = [], []
    for t in range(ticks):
        row = np.zeros(ticks * wide)
        row[t * wide] = -1
        row[t * wide + 1 : t * wide + 1 + many] = -1
        row[t * wide + 1 + many : (t + 1) * wide] = 1
        rows.append(row)  # u + out - in >= need; u >= 0, the rest is curtailed
        right.append(-need[t])
        for g in range(many):
            held = np.zeros(ticks * wide)
            for s in range(t + 1):
                held[s * wide + 1 + g] = -hours / ETA
                held[s * wide + 1 + many + g] = hours * ETA
            rows += [held, -held]
            right += [energy[g] * (1 - START_SOC), energy[g] * START_SOC]
    limits = [(0, None), *[(0, p) for p in power], *[(0, p) for p in power]] * ticks
    plain = linprog(cost, A_ub=np.array(rows), b_ub=np.array(right), bounds=limits, method="highs").fun * hours
    found = bound_wh(np.array(need, dtype=float), power, energy, 900)
    assert found <= plain + 1e-4
    assert found >= 0.9 * plain - 1e-4


def test_many_kinds_of_batteries_are_pooled_which_only_lowers_the_bound():
    power, energy = np.full(7, 10.0), 10.0 * np.arange(1, 8)
    assert len(bounds._groups(power, energy)) == bounds.GROUPS
    need = np.array([60.0, 60.0, -10.0, 60.0])
    pooled_all = bound_wh(need, power, energy, 3600)
    assert pooled(need, 70.0, float(energy.sum()), 3600) - 1e-6 <= pooled_all <= 180


# the data


def test_the_synthetic_set_is_seeded_and_knows_the_seasons():
    one, two, other = synthetic(4, 1, 15, 7, "island"), synthetic(4, 1, 15, 7, "island"), synthetic(4, 1, 15, 8, "island")
    assert (one.load_w == two.load_w).all()
    assert (one.sun_w == two.sun_w).all()
    assert (one.firm_w == two.firm_w).all()
    assert not (one.load_w == other.load_w).all()
    summer = synthetic(4, 1, 185, 7, "island")
    assert summer.sun_w.sum() > 2 * one.sun_w.sum()
    assert summer.load_w.sum() < one.load_w.sum()
    assert one.slots == SLOTS
    assert one.load_w.min() >= 0


def test_the_firm_supply_leaves_one_percent_to_perfect_foresight():
    scene = synthetic(53, 2, 15, 1, "tied")
    wanted, made = scene.load_w.sum(axis=(1, 2)), scene.sun_w.sum(axis=1)
    need = (wanted[1:] + wanted[:-1]) / 2 - (made[1:] + made[:-1]) / 2 - scene.firm_w
    left = pooled(need, scene.battery_w.sum(), scene.battery_wh.sum(), 900) / (wanted[:-1].sum() / 4)
    assert 0.0099 < left <= 0.01
    assert len(set(scene.firm_w)) == 1


@given(st.integers(1, 9), st.integers(0, 99))
def test_once_a_day_half_the_generation_trips_for_two_slots(days, seed):
    up = trips(days * SLOTS, seed)
    assert set(up) == {0.5, 1.0}
    assert [(up[day * SLOTS : (day + 1) * SLOTS] == 0.5).sum() for day in range(days)] == [2] * days


def test_the_weather_is_seeded_and_keeps_the_profiles_mean():
    scene = house([[1000, 0, 0, 0]] * 50, firm=[1] * 8, sun=[1000] * 50)
    first, second = list(weather(scene, 3)), list(weather(scene, 3))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, second, strict=True))
    assert np.mean([load[:, :, 0].mean() for load, _ in first]) == pytest.approx(1000, rel=0.03)
    assert np.mean([sun.mean() for _, sun in first]) == pytest.approx(1000, rel=0.1)
    assert first[0][0].shape == (TICKS, 50, 4)
    assert max(sun.max() for _, sun in first) <= 1150


def test_simbench_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataMissing, match=r"pip install simbench==1\.6\.3"):
        folder()


def test_simbench_from_the_installed_package():
    try:
        folder()
    except DataMissing as missing:
        pytest.skip(str(missing))
    scene = simbench(53, 1, 15, 1, "island")
    assert len(set(scene.ids)) == 53
    assert scene.ids[0].startswith("lv6-201")
    assert (scene.battery_w > 0).sum() == 7  # Storage.csv of LV6.201
    assert scene.battery_wh.sum() == pytest.approx(101_700, rel=0.01)
    assert scene.load_w.shape == (97, 53, 4)
    with pytest.raises(DataMissing, match="--nodes"):
        simbench(5000, 1, 15, 1, "island")


def test_a_number_is_the_same_everywhere():
    assert number("a", 1) == int(hashlib.sha256(b"a|1").hexdigest()[:8], 16)


def test_the_default_scene_is_synthetic():
    assert scene_of(Setup(days=1)).name == "synthetic"
