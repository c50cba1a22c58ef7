"""Plausible readings: each kind of lie by hand, then meters that tell the truth under any load, who must never be accused."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.plausible import FROZEN_S, NEW_READS, NEW_S, NO_WATTS, STEPS, Plausible
from drivers.reading import Reading, absent


def good(w: int, import_wh: int | None = None, export_wh: int | None = None, **more: float) -> Reading:
    counters = {"import_wh": import_wh, "export_wh": export_wh}
    return Reading("good", "", {"w": w, **{name: wh for name, wh in counters.items() if wh is not None}, **more})


def watch(plausible: Plausible, watts, shown, seconds: int, digit: int = 1, both: bool = True, start: int = 0) -> list[Reading]:
    """A meter read each second: it turns by `watts(t)` and says it with `shown`; its counters have a last digit of `digit` Wh."""
    taken_ws, given_ws, said = 0.0, 0.0, []
    for second in range(seconds):
        w = watts(second)
        taken_ws, given_ws = taken_ws + max(w, 0), given_ws + max(-w, 0)
        import_wh, export_wh = (int(ws / 3600) // digit * digit for ws in (taken_ws, given_ws))
        said.append(plausible.judge(shown(w, start + import_wh, start + export_wh if both else None), float(second)))
    return said


def test_a_meter_that_tells_the_truth():
    said = watch(Plausible(5000), lambda t: 1800, good, 600)
    assert {reading.quality for reading in said} == {"good"}
    assert {reading.why for reading in said} == {""}
    assert said[-1].values["import_wh"] == 300  # 1800 W for 600 s


LIES = [
    ("a scale of a thousand", lambda w, i, e: good(w * 1000, i, e), "the watts look 1000 times too large"),
    ("kW taken for W", lambda w, i, e: good(w // 100, i, e), "the watts look 100 times too small"),
    ("the sign", lambda w, i, e: good(-w, i, e), "the sign of the watts is wrong"),
    ("another register", lambda w, i, e: good(w * 4, i, e), "one of them is wrong"),
    ("counters that stand", lambda w, i, e: good(w, 7, 7), "they stand still"),
]


@pytest.mark.parametrize(("name", "shown", "text"), LIES, ids=[lie[0] for lie in LIES])
@pytest.mark.parametrize("watts", [21_000, -24_000])
def test_watts_beside_the_counters(name, shown, text, watts):
    said = watch(Plausible(), lambda t: watts, shown, 4000)
    first = next(reading for reading in said if reading.quality == "suspect")
    assert text in first.why
    assert said[-1].quality == "suspect"
    assert said[0].quality == "good"


def test_a_counter_with_a_last_digit_of_ten_kilowatt_hours_does_not_stand_still():
    assert {reading.quality for reading in watch(Plausible(), lambda t: 9_876_543, good, 4000, digit=10_000)} == {"good"}
    assert {reading.quality for reading in watch(Plausible(), lambda t: 25_000, good, 8000, digit=10_000)} == {"good"}


def test_the_figures_of_the_verdict():
    """1800 W are 0.5 Wh a second: from t = 1 the counter steps every 2 s, for the tenth time at 19; 180 kW make 950 Wh in 19 s."""
    said = watch(Plausible(), lambda t: 1800, lambda w, i, e: good(w * 100, i, e), 40)
    assert [reading.quality for reading in said].index("suspect") == 2 * STEPS - 1
    assert "over 950 Wh the watts make +950 Wh, the meter's own counters +10" in said[-1].why


def test_a_meter_that_was_put_right_is_believed_again():
    plausible = Plausible()
    assert watch(plausible, lambda t: 1800, lambda w, i, e: good(w * 10, i, e), 100)[-1].quality == "suspect"
    said = watch(plausible, lambda t: 1800, good, 1000, start=50)
    assert said[-1].quality == "good"


def test_above_its_rating():
    plausible = Plausible(5000)
    assert plausible.judge(good(6000), 0.0).quality == "good"
    assert plausible.judge(good(-6000), 1.0).quality == "good"
    said = plausible.judge(good(-6001), 2.0)
    assert (said.quality, "rated_w is 5000" in said.why) == ("suspect", True)
    assert plausible.judge(good(100), 3.0).quality == "good"
    assert Plausible().judge(good(10**9), 0.0).quality == "good"


def test_volts_and_hertz_that_do_not_move():
    plausible = Plausible()
    said = [plausible.judge(good(700, v_l1=230.1, hz=50.012), float(t)) for t in range(130)]
    assert [reading.quality for reading in said].index("suspect") == FROZEN_S
    assert "repeats old answers" in said[-1].why
    assert plausible.judge(good(700, v_l1=230.2, hz=50.012), 131.0).quality == "good"


@pytest.mark.parametrize("more", [{}, {"v_l1": 230.1}, {"hz": 50.0}])
def test_watts_alone_may_stand_still_all_night(more):
    plausible = Plausible()
    assert {plausible.judge(good(0, **more), float(t)).quality for t in range(1000)} == {"good"}


def test_few_looks_are_not_enough_to_call_it_frozen():
    plausible = Plausible()
    assert {plausible.judge(good(0, v_l1=230.1, hz=50.0), 60.0 * t).quality for t in range(10)} == {"good"}
    assert plausible.judge(good(0, v_l1=230.1, hz=50.0), 600.0).quality == "suspect"


def test_a_counter_that_falls_is_held():
    """One zero became 53.7 MWh in the field."""
    plausible = Plausible()
    plausible.judge(good(500, 53_700_000, 10), 0.0)
    said = plausible.judge(good(500, 0, 10), 1.0)
    assert (said.quality, said.values["import_wh"]) == ("good", 53_700_000)
    assert said.why == "import_wh fell from 53700000 to 0: held, because counters only rise"
    said = plausible.judge(good(500, 53_700_001, 10), 2.0)
    assert (said.why, said.values["import_wh"]) == ("", 53_700_001)


def test_a_counter_that_jumps_is_held():
    plausible = Plausible(5000)
    plausible.judge(good(500, 1000), 0.0)
    assert plausible.judge(good(500, 11_000), 1.0).why == ""  # a last digit of 10 kWh
    said = plausible.judge(good(500, 22_000), 2.0)
    assert said.values["import_wh"] == 11_000
    assert said.why == "import_wh jumped from 11000 to 22000: held, because counters only rise"
    # after a day away 6000 W make 144 kWh
    assert plausible.judge(good(500, 155_000), 86_402.0).values["import_wh"] == 155_000


def test_a_new_meter_is_taken_after_a_while():
    plausible = Plausible()
    plausible.judge(good(500, 90_000), 0.0)
    said = [plausible.judge(good(500, 3 + t // 30), 1.0 + t) for t in range(100)]
    new = next(number for number, reading in enumerate(said) if reading.values["import_wh"] != 90_000)
    assert new == NEW_S
    assert said[new].why == "import_wh went from 90000 to 5 for good: taken for a new meter"
    assert (said[-1].why, said[-1].values["import_wh"]) == ("", 6)


def test_falls_of_all_kinds_are_not_a_new_meter():
    plausible = Plausible()
    plausible.judge(good(500, 90_000), 0.0)
    for number in range(3 * NEW_READS):
        assert plausible.judge(good(500, 800 - number), 20.0 * number + 1).values["import_wh"] == 90_000  # it still falls
    assert plausible.judge(good(500, 90_002), 400.0).why == ""


def test_a_counter_that_wraps_goes_on():
    plausible = Plausible(wrap_wh=9_999_990)
    plausible.judge(good(500, 9_999_980), 0.0)
    said = plausible.judge(good(500, 15), 100.0)
    assert (said.why, said.values["import_wh"]) == ("", 10_000_005)
    assert plausible.judge(good(500, 25), 200.0).values["import_wh"] == 10_000_015
    far = Plausible(wrap_wh=10**9)
    far.judge(good(500, 1000), 0.0)
    assert "fell" in far.judge(good(500, 7), 1.0).why  # not from near its end


def test_absent_and_suspect_readings_pass_and_none_is_good_without_watts():
    plausible = Plausible()
    assert plausible.judge(absent("silent"), 0.0) == absent("silent")
    assert plausible.judge(Reading("good", "", {"v_l1": 230.0}), 1.0) == Reading("absent", NO_WATTS, {"v_l1": 230.0})
    for quality in ("suspect", "late"):
        wattless = Reading(quality, "hz reads 0", {"v_l1": 230.0})
        assert plausible.judge(wattless, 1.0) is wattless
    said = plausible.judge(Reading("suspect", "v_l1 reads 0", {"w": 5, "import_wh": 7}), 2.0)
    assert (said.quality, said.why) == ("suspect", "v_l1 reads 0")
    assert plausible.judge(Reading("suspect", "v_l1 reads 0", {"w": 5, "import_wh": 3}), 3.0).why.startswith("v_l1 reads 0; import")


def test_a_gap_begins_anew():
    """The watts of a gap are not known: an hour without readings is no reason to accuse the meter."""
    plausible = Plausible()
    for hour in range(50):
        for second in range(2):
            assert plausible.judge(good(0, 100 * hour, 0), 3600.0 * hour + second).quality == "good"


def test_a_counter_that_comes_and_goes():
    plausible = Plausible()
    for t in range(300):
        reading = good(1800, t // 2, 0) if t % 50 < 25 else good(1800, t // 2) if t % 50 < 40 else good(1800)
        assert plausible.judge(reading, float(t)).quality == "good"


def test_a_meter_that_counts_one_way_only():
    said = watch(Plausible(), lambda t: 1800 if t % 400 < 200 else -2400, lambda w, i, e: good(w, i), 3000, both=False)
    assert {reading.quality for reading in said} == {"good"}
    said = watch(Plausible(), lambda t: -1800, lambda w, i, e: good(w, None, e), 3000)  # an inverter
    assert {reading.quality for reading in said} == {"good"}
    said = watch(Plausible(), lambda t: -1800, lambda w, i, e: good(10 * w, None, e), 3000)
    assert "10 times too large" in said[-1].why


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    digit=st.sampled_from([1, 10, 100]),
    peak=st.sampled_from([60, 900, 12_000]),
    hold=st.integers(1, 400),
    both=st.booleans(),
)
def test_the_truth_is_never_accused(seed, digit, peak, hold, both):
    """Any load that switches at any time, taken and given, counters with a coarse last digit."""
    chance = random.Random(seed)
    course = [chance.randint(-peak, peak) for _ in range(3600 // hold + 1)]
    said = watch(Plausible(peak), lambda t: course[t // hold], good, 3600, digit, both)
    assert [reading.why for reading in said if reading.quality != "good"] == []
