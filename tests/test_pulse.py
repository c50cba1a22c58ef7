"""S0 pulses: arithmetic by hand, then any train of pulses, then bounce, noise and silence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.pulse import DEAD_S, OVERDUE, SHORTEST_S, STILL_W, Pulses


def after(*moments, imp_per_kwh=1000, counted=0, **settings):
    pulses = Pulses(imp_per_kwh, counted, **settings)
    for moment in moments:
        pulses.pulse(moment)
    return pulses


@pytest.mark.parametrize(
    ("imp_per_kwh", "moments", "now", "quality", "values"),
    [
        # 1000 imp/kWh is 1 Wh a pulse, 3600 Ws: 36 s apart are 100 W
        (1000, (0, 36), 36, "good", {"w": 100, "import_wh": 2}),
        (1000, (0, 36), 72, "good", {"w": 100, "import_wh": 2}),  # the next pulse is due just now
        (1000, (0, 36), 90, "good", {"w": 67, "import_wh": 2}),  # 54 s without: 3600 / 54 = 66.67 at most
        (1000, (0, 36), 108, "good", {"w": 50, "import_wh": 2}),  # 72 s = two gaps: the last moment at which it is good
        (1000, (0, 36), 108.1, "late", {"w": 50, "import_wh": 2}),  # 3600 / 72.1 = 49.93
        (1000, (0, 36), 36 + 720, "late", {"w": 5, "import_wh": 2}),  # 3600 / 720 = 5 is not below 5
        (1000, (0, 36), 36 + 721, "good", {"w": 0, "import_wh": 2}),
        (1000, (0, 1.8, 3.6), 3.6, "good", {"w": 2000, "import_wh": 3}),
        (1000, (0, 1.8, 3.6, 39.6), 40, "good", {"w": 100, "import_wh": 4}),  # from 2000 W to 100 W: known at the next pulse
        # 800 imp/kWh is 1.25 Wh a pulse, 4500 Ws: 9 s apart are 500 W; 3 * 1000 // 800 = 3
        (800, (0, 9, 18), 20, "good", {"w": 500, "import_wh": 3}),
        # 10000 imp/kWh is 0.1 Wh a pulse, 360 Ws: 0.1 s apart are 3600 W; 12 * 1000 // 10000 = 1
        (10000, tuple(0.1 * i for i in range(12)), 1.15, "good", {"w": 3600, "import_wh": 1}),
        (1000, (5,), 6, "absent", {"import_wh": 1}),
        (1000, (5,), 5 + 721, "good", {"w": 0, "import_wh": 1}),
    ],
)
def test_readings_by_hand(imp_per_kwh, moments, now, quality, values):
    reading = after(*moments, imp_per_kwh=imp_per_kwh).reading(now)
    assert (reading.quality, reading.values) == (quality, values)
    assert (reading.why == "") == (quality == "good")


def test_before_the_first_pulse_nothing_is_known_and_the_wait_is_told():
    pulses = Pulses(1000)
    for now in (0, 10_000):
        reading = pulses.reading(now)
        assert (reading.quality, reading.values) == ("absent", {})
        assert reading.why == "no pulse yet: at 100 W and 1000 imp/kWh one comes in 36 s"
    assert Pulses(500).reading(0).why.endswith("500 imp/kWh one comes in 72 s")


def test_a_kept_count_shows_its_energy_at_once_and_zero_watts_after_a_long_look():
    pulses = Pulses(1000, 12345)
    assert (pulses.reading(100).quality, pulses.reading(100).values) == ("absent", {"import_wh": 12345})
    assert pulses.reading(100 + 720).quality == "absent"
    assert (pulses.reading(100 + 721).quality, pulses.reading(100 + 721).values["w"]) == ("good", 0)
    pulses.pulse(900)  # the look began at 100: that is no gap between two pulses
    assert (pulses.count, pulses.reading(901).quality) == (12346, "absent")
    pulses.pulse(936)
    assert pulses.reading(936).values == {"w": 100, "import_wh": 12347}


def test_bounce_within_the_dead_time_is_one_pulse_and_does_not_extend_it():
    pulses = after(10.0, 10.001, 10.004, 10.02, 10.029)
    assert pulses.count == 1
    pulses.pulse(10.0 + 36)
    pulses.pulse(10.0 + 36.029)
    assert (pulses.count, pulses.reading(46.0).values["w"]) == (2, 100)
    dense = after(*(0.02 * i for i in range(100)))  # 50 edges a second for 2 s: each second one is 40 ms after the last counted
    assert dense.count == 50


def test_a_clock_that_falls_counts_nothing():
    pulses = after(10.0, 46.0, 20.0)
    assert (pulses.count, pulses.reading(46.0).values["w"]) == (2, 100)
    assert pulses.reading(0.0).values["w"] == 100


def test_pulses_too_close_or_too_strong_are_suspect_until_a_plausible_one_comes():
    pulses = after(0, 36, 36.05)
    reading = pulses.reading(36.06)
    assert (reading.quality, reading.values["import_wh"]) == ("suspect", 3)
    assert "a pulse came 50 ms after the one before" in reading.why
    assert pulses.reading(50).quality == "suspect"  # 258 W at most is plausible, the gap before is not
    pulses.pulse(72.05)
    assert (pulses.reading(73).quality, pulses.reading(73).values["w"]) == ("good", 100)
    # 0.5 s at 1000 imp/kWh are 7200 W: fine by default, not on a circuit of 3680 W
    assert after(0, 0.5).reading(0.6).quality == "good"
    assert after(0, 0.5, most_w=3680).reading(0.6).quality == "suspect"
    assert after(0, 0.5, most_w=7200).reading(0.6).quality == "good"
    # 0.1 s at 100 imp/kWh are 360 kW
    assert after(0, 0.1, imp_per_kwh=100).reading(0.2).quality == "suspect"
    assert after(0, 0.05).reading(0.05 + 721).values["w"] == 0


@pytest.mark.parametrize(("imp_per_kwh", "counted"), [(0, 0), (-1000, 0), (1000, -1)])
def test_nonsense_is_refused(imp_per_kwh, counted):
    with pytest.raises(ValueError, match="imp_per_kwh"):
        Pulses(imp_per_kwh, counted)


@given(st.integers(1, 20_000), st.integers(0, 10**9), st.lists(st.floats(0, 5000), max_size=30), st.floats(0, 10_000))
def test_the_count_grows_with_every_pulse_apart_and_energy_follows_it_exactly(imp_per_kwh, counted, moments, wait):
    moments = sorted(moments)
    pulses = after(*moments, imp_per_kwh=imp_per_kwh, counted=counted)
    expected, last = counted, -math.inf
    for moment in moments:
        if moment - last >= DEAD_S:
            expected, last = expected + 1, moment
    assert pulses.count == expected
    if expected:
        assert pulses.reading((moments or [0])[-1] + wait).values["import_wh"] == expected * 1000 // imp_per_kwh


@given(st.integers(100, 10_000), st.floats(0.2, 700), st.lists(st.floats(0, 3000), min_size=2, max_size=20))
def test_between_pulses_the_watts_only_fall_and_never_exceed_what_the_silence_allows(imp_per_kwh, gap, waits):
    pulses = after(0, gap, imp_per_kwh=imp_per_kwh, most_w=10**6)
    before = math.inf
    for wait in sorted(waits):
        reading = pulses.reading(gap + wait)
        w = reading.values["w"]
        assert isinstance(w, int)
        assert w <= before
        assert w <= 3.6e6 / (imp_per_kwh * max(wait, gap)) + 0.5
        assert reading.quality in ("good", "late")
        if reading.quality == "good" and w:
            assert wait <= OVERDUE * gap * 1.001
        if reading.quality == "late":
            assert wait > OVERDUE * gap * 0.999
            assert w >= STILL_W - 1
        before = w


@given(st.floats(50, 60_000), st.integers(2, 50))
def test_steady_power_is_told_to_the_watt_at_every_moment(w, n):
    gap = 3600 / w  # 1000 imp/kWh
    pulses = after(*(i * gap for i in range(n)))
    for part in (0, 0.5, 0.999):
        reading = pulses.reading((n - 1 + part) * gap)
        assert reading.quality == ("good" if gap >= SHORTEST_S else "suspect")
        assert abs(reading.values["w"] - w) <= 0.51
