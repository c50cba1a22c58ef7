"""The image of a SunSpec device: any device, encoded and read back, and what no device can show."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sunspec import read, run

from drivers.registers import encode, rounded
from drivers.sunspec import BASES, Model, factor, find, points, register
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS, MODULES_ID

ACME = "Acme"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Part(203, {"soc_pct": 1}), "model 203 of length 105 has no place for soc_pct"),
        (Part(203, {"hz": 50}, length=15), "model 203 of length 15 has no place for hz"),
        (Part(203, {"w": 40000}), "w = 40000 does not fit"),
        (Part(203, {"w": 1, "w_l1": 1}, {"w_l1": -1}), "w_l1 shares its scale factor, which is 0, not -1"),
        (Part(120, {"w": 1}, length=26), "model 120 is known by its words alone"),
    ],
)
def test_an_image_refuses_what_a_device_cannot_show(part, told):
    with pytest.raises(ValueError, match=told):
        image([common(ACME), part])


def test_an_image_holds_models_that_are_only_words():
    assert image([Part(64110, words={2: 7, 4: 9})], 0) == dict(enumerate([0x5375, 0x6E53, 64110, 3, 7, 0, 9, 0xFFFF, 0]))


RAW = {
    "i16": st.integers(-0x7FFF, 0x7FFF),
    "u16": st.integers(0, 0xFFFE),
    "u32": st.integers(0, 2**32 - 2),
    "u64": st.integers(0, 2**64 - 2),
    "acc32": st.integers(1, 2**31 - 1),
    "f32": st.floats(width=32, allow_nan=False, allow_infinity=False),
}


@st.composite
def devices(draw):
    """(parts, base, which, exact values): any model in any device, of any length that holds its first quantity."""
    id_, base = draw(st.sampled_from(sorted(set(LAYOUTS) - {MODULES_ID}))), draw(st.sampled_from(BASES))
    makers = draw(st.sampled_from([(ACME,), ("SolarEdge",), ("KOSTAL",), ("Fronius", "x")]))
    layout = LAYOUTS[id_]
    least = max(layout.points[0].at, layout.points[0].sf or 0)
    model = Model(id_, 0, draw(st.integers(least, layout.length + 70)), makers)
    powers, values, scales = {}, {}, {}
    for point in points(model):
        if draw(st.integers(0, 5)):
            power = 0 if point.sf is None else powers.setdefault(point.sf, draw(st.integers(-10, 10)))
            values[point.name] = Fraction(draw(RAW[point.kind])) * Fraction(10) ** power * factor(model, point)
            scales[point.name] = power
    strange = st.builds(lambda id_, length: Part(id_, length=length), st.sampled_from([64001, 120, 121, 160]), st.integers(0, 300))
    before, after = draw(st.lists(strange, max_size=4)), draw(st.lists(strange, max_size=2))
    parts = [*map(common, makers), *before, Part(id_, values, scales, model.length), *after]
    return parts, base, LAYOUTS[id_].which, values


@settings(max_examples=150)
@given(devices(), st.sampled_from([125, 125, 60, 20]))
def test_any_device_is_read_back_as_it_was_made(device, most):
    parts, base, which, exact = device
    reading = read(image(parts, base), which, most)
    wanted = {name: rounded(name, abs(value) if name == "va" or name[:2] == "a_" else value) for name, value in exact.items()}
    if abs(wanted.get("pf", 0)) > 1:
        del wanted["pf"]
    assert dict(reading.values) == wanted
    assert (reading.quality == "absent") == (not wanted)


def test_an_image_is_what_encode_says():
    words = image([common(ACME), Part(213, {"w": 1575.5})])
    (model,) = run(find(None), words)
    assert (words[40098], words[40099]) == encode(register(model, points(model)[0]), 1575.5, "big") == (0x44C4, 0xF000)
