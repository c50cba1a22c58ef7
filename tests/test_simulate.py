"""grid simulate: the data, the physics, the bound, the records on their way, the cases, and the command."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli.simulate import simulate
from agent.dispatch import Flex, Settings
from agent.guards import Guards, View
from agent.simulate import bound as bounds
from agent.simulate.bound import bound_wh
from agent.simulate.cases import Alone, Grid, Nothing, flexes
from agent.simulate.comms import DAY_TICKS, Comms, hops
from agent.simulate.data import ETA, SLOTS, START_SOC, TICKS, Scene, number, pooled, synthetic, trips, weather
from agent.simulate.physics import FULL_HZ, GROUPS, HOURS, SHED_HZ, TRIP_HZ, Plant, Totals, stages, swing
from agent.simulate.plans import Plans, Records
from agent.simulate.run import CASES, Result, Setup, run, scene_of
from agent.simulate.simbench import DataMissing, folder, simbench

KEYS = {"unserved_kwh", "ratio", "blackouts", "critical_kwh", "min_hz", "switches", "saidi_min", "curtailed_kwh"}


def house(loads, battery_w=(), battery_wh=(), firm=(1000,), sun=None):
    """A scene whose profiles do not move: `loads` by node and class."""
    rows, nodes = len(firm) + 1, len(loads)
    power = np.array([*battery_w, *[0] * (nodes - len(battery_w))], dtype=float)
    energy = np.array([*battery_wh, *[0] * (nodes - len(battery_wh))], dtype=float)
    made = np.zeros((rows, nodes)) if sun is None else np.tile(np.array(sun, dtype=float), (rows, 1))
    load = np.tile(np.array(loads, dtype=float), (rows, 1, 1))
    return Scene("hand", tuple(f"n{k}" for k in range(nodes)), load, made, power, energy, np.array(firm), 0)


def watts(scene):
    return scene.load_w[0].astype(np.int64), scene.sun_w[0].astype(np.int64)


def short(nodes=4, slots=2, mode="island", seed=1, begin=76):
    """An hour or so of an evening of the synthetic set."""
    scene = synthetic(nodes, 1, 15, seed, mode)
    cut = slice(begin, begin + slots)
    edges = slice(begin, begin + slots + 1)
    return replace(scene, firm_w=scene.firm_w[cut] * 8 // 10, load_w=scene.load_w[edges], sun_w=scene.sun_w[edges])


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


# the physics


def test_a_balanced_tick_by_hand():
    # 600 W wanted, 100 W sun, battery set to 200 W, so the firm supply gives 300 of 1000 W: 50 - 0.2 * 0.3 Hz
    scene = house([[600, 0, 0, 0]], [500], [1000], sun=[100])
    plant = Plant(scene, "island", droop=True)
    plant.setpoint_w = np.array([200.0])
    flow = plant.step(*watts(scene), 1000.0, 0)
    assert (flow.served, flow.battery, flow.firm, flow.curtailed) == (600, 200, 300, 0)
    assert flow.hz == pytest.approx(49.94)
    assert plant.held_wh[0] == pytest.approx(500 - 200 * HOURS / ETA)
    assert plant.net_w[0] == 100 + 200 - 600
    assert plant.totals.unserved_wh == 0


def test_droop_gives_what_is_missing():
    # 1100 W on 1000 W firm: 100 W of 500 W rated at 0.4 parts a Hz is half a Hertz below 49.8
    scene = house([[1100, 0, 0, 0]], [500], [1000])
    plant = Plant(scene, "island", droop=True)
    flow = plant.step(*watts(scene), 1000.0, 0)
    assert flow.battery == pytest.approx(100)
    assert flow.hz == pytest.approx(49.3, abs=1e-3)
    assert plant.droop_w[0] == pytest.approx(100)


def test_what_droop_cannot_give_is_shed_by_frequency_the_flexible_first():
    # 20 W of 1000 W rated sink by 0.17 Hz a second only, so that nothing beyond the balance goes
    scene = house([[400, 300, 200, 120]], firm=[1000])
    plant = Plant(scene, "island", droop=True)
    flow = plant.step(*watts(scene), 1000.0, 0)
    assert plant.on[0].tolist() == [True, True, True, False]
    assert plant.by_hz[0].tolist() == [False, False, False, True]
    assert flow.served == 900
    assert plant.totals.unserved_wh == pytest.approx(120 * HOURS)
    assert plant.totals.switches == 1
    assert plant.totals.critical_wh == 0


def test_without_droop_a_deficit_is_a_blackout_until_it_can_start_again():
    scene = house([[400, 300, 200, 400]], firm=[1000])
    plant = Plant(scene, "island", droop=False)
    for tick in range(450):
        assert plant.step(*watts(scene), 1000.0, tick).served == 0
    assert plant.totals.blackouts == 1
    assert plant.totals.unserved_wh == pytest.approx(1300 * HOURS * 450)
    assert plant.dark == 450  # 1300 W do not start on 1000 W
    plant.dark = 1
    plant.step(*watts(scene), 5000.0, 450)
    assert plant.step(*watts(scene), 5000.0, 451).served == 1300


def test_after_a_blackout_droop_starts_with_the_critical_class():
    scene = house([[400, 300, 200, 400]], firm=[1000])
    plant = Plant(scene, "island", droop=True)
    plant.dark = 1
    plant.step(*watts(scene), 1000.0, 0)
    assert plant.on[0].tolist() == [True, False, False, False]
    assert plant.dark == 0


def test_surplus_goes_into_batteries_then_is_curtailed():
    scene = house([[100, 0, 0, 0]], [200], [1000], sun=[1000])
    plant = Plant(scene, "island", droop=True)
    flow = plant.step(*watts(scene), 0.0, 0)
    assert (flow.battery, flow.curtailed) == (-200, 700)
    assert flow.hz == pytest.approx(50.2 + 0.7 * 2.5, abs=0.46)  # at most 51.5
    assert plant.totals.curtailed_wh == pytest.approx(700 * HOURS)


def test_tied_surplus_is_exported_and_import_beyond_the_limit_counts_and_trips():
    scene = house([[1500, 0, 0, 0]], sun=[0])
    plant = Plant(scene, "tied", droop=True)
    flow = plant.step(*watts(scene), 1000.0, 0)
    assert (flow.firm, flow.over, flow.hz) == (1000, 500, 50.0)
    assert plant.totals.unserved_wh == pytest.approx(500 * HOURS)
    for tick in range(1, 13):  # half too much heats one second a tick of two: trips beyond twelve
        plant.step(*watts(scene), 1000.0, tick)
    assert plant.totals.blackouts == 1
    made = house([[100, 0, 0, 0]], sun=[900])
    assert Plant(made, "tied", droop=True).step(*watts(made), 1000.0, 0).exported == 800


def test_the_swing_follows_the_equation():
    # nothing helps: 100 W of 1000 W rated: 50 * 0.1 / 6 Hz a second for two seconds
    dropped, lowest = swing(49.8, 100.0, np.zeros(GROUPS), np.zeros(1), np.zeros(1), 1000.0)
    assert dropped == GROUPS or lowest == pytest.approx(49.8 - 2 * 50 * 0.1 / 6, abs=1e-6)
    assert lowest == pytest.approx(49.8 - 2 * 50 * 0.1 / 6, abs=1e-6)


def test_a_swing_too_fast_for_relays_trips_the_plant():
    assert swing(49.8, 900.0, np.full(GROUPS, 10.0), np.zeros(1), np.zeros(1), 1000.0)[1] < TRIP_HZ
    scene = house([[3000, 0, 0, 0]], firm=[100])
    plant = Plant(scene, "island", droop=True)
    plant.step(*watts(scene), 100.0, 0)
    assert plant.totals.blackouts == 1


def test_the_order_of_shedding_is_that_of_the_agents():
    place = stages(("a", "b", "c"), 3)
    assert place.shape == (3, 4)
    assert place[:, 3].max() < place[:, 2].min() <= place[:, 2].max() < place[:, 1].min()
    assert place[:, 0].max() < GROUPS
    assert (stages(("a", "b", "c"), 3) == place).all()


@given(
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.integers(-900, 900),
    st.integers(0, 3000),
    st.sampled_from(["island", "tied"]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_energy_is_conserved(load_w, sun_w, set_w, firm_w, mode, droop):
    scene = house([[load_w, load_w // 2, 7, 100], [50, 60, 70, 80]], [800], [40], sun=[sun_w, 5])
    plant = Plant(scene, mode, droop)
    for tick in range(3):
        plant.setpoint_w = np.array([float(set_w)])
        before = float(plant.held_wh.sum())
        flow = plant.step(*watts(scene), float(firm_w), tick)
        assert flow.served + flow.curtailed + flow.exported == pytest.approx(
            flow.sun + flow.battery + flow.firm + flow.over, abs=1e-3
        )
        gone = before - float(plant.held_wh.sum())
        assert gone == pytest.approx(flow.battery * HOURS / (ETA if flow.battery > 0 else 1 / ETA), abs=1e-6)
        assert 0 <= flow.firm <= firm_w
        assert 0 <= plant.held_wh[0] <= 40
        assert plant.net_w.sum() == pytest.approx(flow.sun + flow.battery - flow.curtailed - flow.served, abs=1e-3) or plant.dark


# records on their way


def test_the_graph_is_connected_symmetric_and_seeded():
    far = hops(30, 5)
    assert (far == far.T).all()
    assert (np.diag(far) == 0).all()
    assert far.sum() == hops(30, 5).sum()
    assert (far + np.eye(30) > 0).all()


def test_delay_loss_and_partition_of_records():
    comms = Comms(6, 1, 2.0, 0.0, 0.0)
    for tick in range(50):
        comms.step(tick)
    assert (49 - comms.last == comms.lag).all()
    assert comms.lag.max() == hops(6, 1).max()
    lossy = Comms(6, 1, 0.2, 0.5, 0.0)
    for tick in range(50):
        lossy.step(tick)
    assert (49 - lossy.last >= 1).all()
    assert (49 - lossy.last > 1).any()
    assert (np.diag(49 - lossy.last) == 1).all()
    cut = Comms(6, 1, 0.2, 0.0, 6.0)
    begin = 6 * 1800
    for tick in range(begin - 5, begin + 5):
        cut.step(tick)
    assert not cut.split(begin - 1)
    assert cut.split(begin)
    assert cut.last[0, 2] == begin + 3
    assert cut.last[0, 1] == begin - 2
    whole = Comms(6, 1, 0.2, 0.0, 24.0)
    assert all(whole.split(tick) for tick in (0, DAY_TICKS - 1, DAY_TICKS))
    assert not any(comms.split(tick) for tick in range(0, DAY_TICKS, 900))


# the cases


def drive(case, scene, seed=1):
    tick = 0
    for slot, (load, sun) in enumerate(weather(scene, seed)):
        for k in range(TICKS):
            case.decide(tick, load[k], sun[k], int(scene.firm_w[slot]))
            case.plant.step(load[k], sun[k], float(scene.firm_w[slot]), tick)
            tick += 1
    return case.plant.totals


def grid_of(scene, hop_s=0.2, loss=0.0, partition_h=0.0, mode="island", **more):
    comms = Comms(len(scene.ids), 1, hop_s, loss, partition_h)
    return Grid(scene, mode, comms, Settings(lag_s=comms.lag_s), **more)


def test_a_battery_offers_what_it_has():
    scene = house([[600, 0, 0, 0], [1, 2, 3, 4]], [500], [1000], sun=[100, 7])
    plant = Plant(scene, "island", droop=True)
    first, second = flexes(plant, *watts(scene), {0: 0}, range(2), 900, 300)
    assert (first.dis_w, first.chg_w, first.soc_wh, first.cap_wh, first.firm_w, first.slack_w) == (500, 500, 500, 1000, 900, 300)
    assert first.ttg_s == int(500 * ETA * 3600 / 500)
    assert (second.load, second.pv_w, second.slack_w, second.cap_wh) == ((1, 2, 3, 4), 7, None, 0)


def test_a_breaker_carries_a_little_too_much():
    scene = house([[1120, 0, 0, 0]], sun=[0])  # 1.12 of 1000 W
    plant = Plant(scene, "tied", droop=True)
    for tick in range(600):
        plant.step(*watts(scene), 1000.0, tick)
    assert plant.totals.blackouts == 0
    assert plant.totals.over_wh == plant.totals.unserved_wh == pytest.approx(120 * HOURS * 600)


@pytest.mark.parametrize("mode", ["island", "tied"])
def test_no_case_is_below_the_bound_and_the_plan_is_the_best(mode):
    scene = short(slots=1, mode=mode)
    setup = Setup(mode=mode)
    result = run(setup, scene)
    ratios = {name: result.ratio(totals) for name, totals in result.cases.items()}
    assert set(ratios) == set(CASES)
    assert min(ratios.values()) >= 1 - 1e-6
    assert ratios["grid"] == min(ratios.values())
    assert result.cases["grid"].blackouts == 0


def test_equal_seeds_give_equal_results_and_others_do_not():
    scene = short(slots=1)
    setup = Setup(hop_s=2.0, loss=0.05)
    one, two = run(setup, scene).as_json(), run(setup, scene).as_json()
    assert one == two
    assert run(replace(setup, seed=2), scene).as_json() != one


def test_the_keys_are_those_of_the_design():
    told = run(Setup(), short(slots=1)).as_json()
    assert set(told) == {"bound_kwh", "demand_kwh", "cases"}
    assert set(told["cases"]) == {"none", "droop", "grid"}
    assert all(set(case) == KEYS for case in told["cases"].values())
    assert json.loads(json.dumps(told)) == told


def test_there_is_no_ratio_to_next_to_nothing():
    wet = Result(0.001, 1000.0, {}, {}, 1)
    assert wet.ratio(Totals(unserved_wh=5.0)) is None
    assert replace(wet, bound_wh=2.0).ratio(Totals(unserved_wh=5.0)) == 2.5


def test_a_plan_sheds_what_is_missing_and_restores_it():
    # 1300 W on 1000 W: the flexible block of 400 W goes by plan before the frequency falls again
    scene = house([[400, 300, 100, 0], [100, 0, 0, 400]], firm=[1000, 2000])
    case = grid_of(scene)
    load, sun = watts(scene)
    for tick in range(120):
        case.decide(tick, load, sun, 1000)
        case.plant.step(load, sun, 1000.0, tick)
    assert case.plant.on.tolist() == [[True] * 4, [True, True, True, False]]
    for tick in range(120, 200):
        case.decide(tick, load, sun, 2000)
        case.plant.step(load, sun, 2000.0, tick)
    assert case.plant.on.all()
    assert case.plant.totals.switches <= 8  # first by frequency while the records are on their way
    assert case.plant.totals.blackouts == 0


@pytest.mark.parametrize("mode", ["island", "tied"])
@pytest.mark.parametrize("seed", range(4))
def test_the_plans_of_all_at_once_are_those_of_every_node(mode, seed):
    """agent/simulate/plans.py against agent/guards.py and agent/dispatch.py themselves, watt for watt, on made-up records."""
    random, nodes, plan = np.random.default_rng(seed), 7, Settings(lag_s=4, target_pm=800 if seed % 2 else 1000, stale_s=30)
    ids, at = tuple(f"n{node * 7 % 10}{node}" for node in range(nodes)), np.array([1, 2, 4, 6])
    records = Records(nodes, at, 0)
    plans = Plans(ids, records, mode, plan, 50.0)
    guards = [Guards(plan, 50.0, 0.0) for _ in ids]
    told, last, seen = {}, np.full((nodes, nodes), -1), set()
    for tick in range(420):
        records.leave(last, tick)
        now = tick % records.ring
        records.load[now] = random.integers(0, 400, (nodes, 4)) * (random.random((nodes, 4)) < 0.8)
        records.sun[now], records.net[now] = random.integers(0, 500, nodes), random.integers(-900, 900, nodes)
        power = random.integers(0, 900, (4, 2)) * (random.random((4, 2)) < 0.9)
        records.store[now] = np.column_stack((power, random.integers(0, 9000, 4), random.integers(0, 1000, 4), [1000] * 4))
        records.firm[now] = random.integers(0, 2500, 2) + (400 * nodes if 40 < tick < 60 else 0)
        for node in range(nodes):
            dis, chg, ttg, soc, cap = records.store[now, list(at).index(node)].tolist() if node in at else [0] * 5
            firm, slack = records.firm[now].tolist() if node == 0 else (0, None)
            flex = Flex(
                tuple(records.load[now, node].tolist()), int(records.sun[now, node]), dis, chg, ttg, soc, cap, firm, 0, slack
            )
            told[node, tick] = flex, int(records.net[now, node])
        hears = random.random((nodes, nodes)) < (0.02 if seed == 3 else 0.3)
        hears[:, 5] &= tick < 60  # falls silent for longer than records are kept
        hears[:, 0] &= not 150 < tick < 190
        hears |= np.eye(nodes, dtype=bool) & (tick != 100)
        last = np.where(hears, tick - random.integers(1, 3, (nodes, nodes)), last).clip(-1)
        hz, rows = float(random.choice([49.7, 49.9, 50.0])) if tick > 45 else 50.0, np.arange(nodes)[tick % 2 :: 2]
        lines = plans.step(rows, last, tick, tick // 100, hz)
        for k, node in enumerate(rows):
            table = {ids[other]: (told[other, t][0], (tick - t) * 2.0) for other, t in enumerate(last[node].tolist()) if t >= 0}
            nets = {ids[other]: told[other, t][1] for other, t in enumerate(last[node].tolist()) if t >= 0}
            heard = sum(age_s <= plan.stale_s + plan.lag_s for _, age_s in table.values())
            view = View(table, nets, dict.fromkeys(table, "d"), heard, nodes, hz)
            verdict = guards[node].step(view, ids[node], tick // 100, mode, tick * 2.0)
            assert lines.planned[k] == (verdict.share is not None)
            if verdict.share is not None:
                said = tuple(lines.open[k].tolist()), tuple(lines.hold[k].tolist()), int(lines.battery_w[k])
                assert round(float(plans.closure_w[node])) == verdict.closure_w
                assert said == (verdict.share.open, verdict.share.hold, verdict.share.battery_w)
                assert round(float(plans.closure_w[node])) == verdict.closure_w
                seen.add((any(verdict.share.open), verdict.share.battery_w > 0, verdict.share.battery_w < 0))
    assert len(seen) > 3
    assert records.old.any()


def test_far_nodes_know_less_and_a_cut_from_the_slack_meter_ends_the_plan():
    scene = short(slots=1)
    case = grid_of(scene, partition_h=24.0)
    drive(case, scene)
    assert case.planned.tolist() == [True, False, True, False]  # the even ones are with the slack meter
    near = drive(grid_of(scene, 0.2), scene)
    far = drive(grid_of(scene, 10.0), scene)
    assert near.unserved_wh <= far.unserved_wh * 1.02


def test_a_long_partition_keeps_the_last_records():
    scene = house([[200, 100, 50, 50], [200, 100, 50, 50], [100, 100, 50, 50]], [300], [600], firm=[900, 900], sun=[0, 50, 0])
    case = grid_of(scene, partition_h=24.0)
    case._comms._split = range(20, 10**6)
    totals = drive(case, scene)
    assert case.records.old.any()  # older than the ring
    assert totals.blackouts == 0


def test_loss_changes_little():
    scene = short(slots=1)
    clean, lossy = drive(grid_of(scene, 2.0), scene), drive(grid_of(scene, 2.0, 0.05), scene)
    assert lossy.unserved_wh == pytest.approx(clean.unserved_wh, rel=0.05)


def test_nobody_is_worse_off_than_droop_with_a_liar_or_one_that_does_not_obey():
    scene = short(slots=1)
    alone = drive(Alone(scene, "island"), scene)
    for more in ({"liar": 2}, {"deaf": 2}):
        totals = drive(grid_of(scene, **more), scene)
        assert totals.blackouts == 0
        assert totals.unserved_wh <= alone.unserved_wh * 1.05


def test_relays_keep_their_minimum_times():
    scene = short(slots=1)
    case = grid_of(scene)
    states, tick = [], 0
    for slot, (load, sun) in enumerate(weather(scene, 1)):
        for k in range(TICKS):
            case.decide(tick, load[k], sun[k], int(scene.firm_w[slot]))
            case.plant.step(load[k], sun[k], float(scene.firm_w[slot]), tick)
            states.append(case.plant.on.copy())
            tick += 1
    states = np.array(states)
    for node in range(4):
        for each in range(4):
            line = states[:, node, each]
            turns = np.flatnonzero(np.diff(line.astype(int))) + 1
            off = [(a, b) for a, b in pairwise(turns) if not line[a]]
            assert all(b - a >= 4 for a, b in off)  # ten seconds; opened inside the tick before, closed before the next


def test_nothing_serves_its_own_house():
    scene = house([[600, 0, 0, 0]], [500], [1000], sun=[100])
    case = Nothing(scene, "island")
    case.decide(0, *watts(scene), 1000)
    assert case.plant.setpoint_w.tolist() == [500]


def test_a_number_is_the_same_everywhere():
    assert number("a", 1) == int(hashlib.sha256(b"a|1").hexdigest()[:8], 16)


def test_low_frequency_and_shedding_have_the_agents_thresholds():
    assert (SHED_HZ, FULL_HZ) == (49.0, 49.8)
    assert GROUPS >= 6


# the command


def call(*arguments):
    return CliRunner().invoke(simulate, list(arguments))


@pytest.fixture
def brief(monkeypatch):
    """One slot instead of days."""
    monkeypatch.setattr("agent.simulate.run.scene_of", lambda setup: short(setup.nodes, 1, setup.mode, setup.seed))


@pytest.mark.usefixtures("brief")
def test_the_command_prints_json_alone_on_stdout():
    done = call("--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["cases"]["grid"]) == KEYS
    assert "simulated 100 %" in done.stderr


@pytest.mark.usefixtures("brief")
def test_the_command_prints_a_table():
    done = call("--nodes", "5", "--mode", "tied")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("synthetic, tied: 5 nodes, 2 days from day 15")
    assert "perfect foresight leaves" in lines[1]
    assert lines[2].split("\t")[:2] == ["case", "unserved kWh"]
    assert [line.split("\t")[0] for line in lines[3:]] == ["none", "droop", "grid"]


@pytest.mark.usefixtures("brief")
def test_a_plot_is_a_picture(tmp_path):
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pytest.skip("matplotlib is not installed: pip install 'grid-edge-agent[simulate]'")
    path = tmp_path / "run.png"
    done = call("--plot", str(path))
    assert done.exit_code == 0, done.output
    assert path.read_bytes().startswith(b"\x89PNG")
    assert call("--plot", str(tmp_path / "run.nothing")).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nodes", "1"),
        ("--days", "0"),
        ("--start", "366"),
        ("--hop", "-1"),
        ("--loss", "1"),
        ("--partition", "25"),
        ("--data", "made-up"),
        ("--mode", "both"),
        ("--seed", "-1"),
        ("--plot", "/nowhere/at/all/x.png"),
    ],
)
def test_wrong_input_is_wrong_usage(arguments, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert call(*arguments).exit_code == 2


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = call("--plot", "x.png")
    assert done.exit_code == 1
    assert "scipy and matplotlib" in done.stderr
    assert "grid-edge-agent[simulate]" in done.stderr


def test_missing_data_say_what_to_install(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "simbench" else real(name))
    done = call("--data", "simbench")
    assert done.exit_code == 1
    assert "pip install simbench==1.6.3" in done.stderr


def test_the_default_scene_is_synthetic():
    assert scene_of(Setup(days=1)).name == "synthetic"


def test_the_package_loads_neither_plots_nor_data_packages():
    text = (Path(__file__).parent.parent / "agent" / "simulate" / "run.py").read_text()
    assert "matplotlib" not in text
