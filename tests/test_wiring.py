"""Meters mounted the wrong way round: which are found, when, and which are not accused."""

import pytest

from drivers.reading import Reading, absent
from drivers.wiring import LASTS_S, Wiring


def meter(role, w, name="m", **more):
    return name, role, Reading("good", "", {"w": w, **more})


def after(meters, hour, seconds=LASTS_S):
    wiring = Wiring()
    assert wiring.look(meters, hour, 1000.0) == []
    return wiring.look(meters, hour, 1000.0 + seconds)


FOUND = [
    ([meter("pv", 51)], 12.0, "uses power all the time"),
    ([meter("pv", -51)], 0.0, "produces in the middle of the night"),
    ([meter("pv", -51)], 23.0, "produces in the middle of the night"),
    ([meter("grid", -51)], 3.4, "there is no battery or generator"),
    ([meter("grid", -400), meter("pv", 0, "roof")], 1.0, "there is no battery or generator"),
    ([meter("load", -51)], 12.0, "gives power out all the time"),
]


@pytest.mark.parametrize(("meters", "hour", "text"), FOUND)
def test_found_after_ten_minutes(meters, hour, text):
    assert after(meters, hour, LASTS_S - 1) == []
    (hint,) = after(meters, hour)
    assert text in hint
    assert "'m'" in hint


FINE = [
    ([meter("pv", -3000)], 12.0),
    ([meter("pv", 50)], 1.0),  # an inverter's own use at night
    ([meter("pv", -50)], 1.0),
    ([meter("pv", -3000)], 22.9),  # a northern summer evening
    ([meter("grid", -3000)], 12.0),
    ([meter("grid", -3000)], 3.5),
    ([meter("grid", -3000), meter("battery", -3500, "cellar")], 1.0),
    ([meter("grid", -3000), meter("generator", -3500, "cellar")], 1.0),
    ([meter("grid", 3000)], 1.0),
    ([meter("load", 3000)], 1.0),
    ([meter("battery", 3000)], 1.0),
    ([("m", "pv", absent("silent"))], 1.0),
    ([("m", "pv", Reading("suspect", "?", {"w": 3000}))], 12.0),
    ([("m", "pv", Reading("good", "", {"v_l1": 230.0}))], 12.0),
]


@pytest.mark.parametrize(("meters", "hour"), FINE)
def test_not_accused(meters, hour):
    assert after(meters, hour) == []


def test_a_break_begins_anew():
    wiring, wrong = Wiring(), [meter("pv", 700)]
    wiring.look(wrong, 12.0, 0.0)
    wiring.look([meter("pv", -10)], 12.0, 300.0)
    wiring.look(wrong, 12.0, 310.0)
    assert wiring.look(wrong, 12.0, 909.0) == []
    assert wiring.look(wrong, 12.0, 910.0) != []


@pytest.mark.parametrize(
    ("counters", "text"),
    [
        ({"import_wh": 90, "export_wh": 10}, ", and its counters have more taken than given: "),
        ({"import_wh": 9, "export_wh": 10}, ", and its counters have more given than taken: "),
        ({"import_wh": 10, "export_wh": 10}, "night: "),
        ({"import_wh": 10}, "night: "),
    ],
)
def test_what_the_counters_say(counters, text):
    (hint,) = after([meter("pv", -700, **counters)], 0.5)
    assert text in hint
