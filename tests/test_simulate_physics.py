"""The plant: a tick by hand, droop, shedding, blackouts, the breaker, the swing; and that no energy is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import house, watts

from agent.simulate.data import ETA
from agent.simulate.physics import FULL_HZ, GROUPS, HOURS, SHED_HZ, TRIP_HZ, Plant, stages, swing


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


def test_a_breaker_carries_a_little_too_much():
    scene = house([[1120, 0, 0, 0]], sun=[0])  # 1.12 of 1000 W
    plant = Plant(scene, "tied", droop=True)
    for tick in range(600):
        plant.step(*watts(scene), 1000.0, tick)
    assert plant.totals.blackouts == 0
    assert plant.totals.over_wh == plant.totals.unserved_wh == pytest.approx(120 * HOURS * 600)


def test_low_frequency_and_shedding_have_the_agents_thresholds():
    assert (SHED_HZ, FULL_HZ) == (49.0, 49.8)
    assert GROUPS >= 6
