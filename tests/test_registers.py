"""Registers: words to quantities and back, the plan of requests, plausibility."""

import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mapfile import parse
from drivers.reading import QUANTITIES
from drivers.registers import FORMATS, Reg, decode, encode, measure, plan, proofs, readable, rounded, words_of

MINIMAL = """\
[meter]
id = "test"
vendor = "Nobody"
models = ["T1"]
phases = 3
trust = "C"
sources = ["made for this test"]
[read]
fc = 4
max_regs = 10
max_gap = 2
[regs]
w = { at = 10, type = "i32", scale = 0.1, missing = 0x7FFFFFFF }
w_l1 = { at = 12, type = "i32", scale = 0.1 }
w_l2 = { at = 14, type = "i32", scale = 0.1 }
v_l1 = { at = 0, type = "f32", slow = true }
hz = { at = 30, type = "u16", scale = 0.01, missing = [0xFFFF, 0x8000], slow = true }
[check]
range = { v_l1 = [85, 300], hz = [44, 66] }
sum = { w = ["w_l1", "w_l2"] }
"""
TEST = parse(MINIMAL, "test.toml")
# w is derived from two numbers that are no quantities, va from quantities; two registers tell model and setting
WIDE = parse(
    """\
[meter]
id = "wide"
vendor = "Nobody"
models = ["W1"]
phases = 1
trust = "C"
sources = ["made for this test"]
alike = ["test", "other"]
[read]
fc = 4
[ident]
at = 11
type = "u16"
fc = 3
one_of = [1650, 1648]
[require]
at = 2
type = "u32"
one_of = [7]
say = "set its application to H"
optional = true
[regs]
in_w = { at = 0, type = "u16", scale = 0.1, raw = true, missing = 0xFFFF }
out_w = { at = 1, type = "u16", scale = 0.1, raw = true, missing = 0xFFFF }
w_l1 = { at = 4, type = "i16" }
w_l2 = { at = 5, type = "i16" }
hz = { at = 6, type = "u16", scale = 0.01 }
[derive]
w = { sum = ["in_w", "-out_w"] }
va = { sum = ["w_l1", "w_l2"] }
[check]
range = { w = [-100, 100], hz = [44, 66] }
""",
    "wide.toml",
)

# By hand. -1234.5 W ends in a tie and goes to the even neighbour.
DECODED = [
    ("u16", 1, (0x00E6,), 230),
    ("i16", "0.1", (0xFFFE,), Fraction(-2, 10)),
    ("u32", "0.1", (0x0000, 0x08FE), Fraction(2302, 10)),
    ("i32", 1, (0xFFFF, 0xFFFF), -1),
    ("u64", 10, (0, 0, 1, 0xE240), 1_234_560),
    ("i64", 1, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD), -3),
    ("f32", 1, (0x447A, 0x0000), 1000),
    ("f32", 1000, (0xC49A, 0x5000), -1_234_500),
    ("f64", 1, (0x408F, 0x4000, 0, 0), 1000),
]


@pytest.mark.parametrize(("kind", "scale", "words", "value"), DECODED)
def test_words_to_values_by_hand(kind, scale, words, value):
    reg = Reg("w", 4, 0, kind, Fraction(scale))
    assert decode(reg, words, "big") == value
    assert decode(reg, words[::-1], "little") == value
    assert encode(reg, value, "big") == words
    assert encode(reg, value, "little") == words[::-1]


@pytest.mark.parametrize(
    ("name", "exact", "shown"),
    [
        ("w", "-1234.5", -1234),
        ("w", "1235.5", 1236),
        ("import_wh", "0.5", 0),
        ("v_l1", "230.25", 230.2),
        ("hz", "49.9875", 49.988),
        ("pf", "-1", -1.0),
    ],
)
def test_values_are_rounded_once_half_to_even(name, exact, shown):
    value = rounded(name, Fraction(exact))
    assert value == shown
    assert isinstance(value, type(shown))


@given(
    st.sampled_from([kind for kind in FORMATS if kind[0] != "f"]),
    st.sampled_from(["1", "0.1", "0.001", "10", "1000"]),
    st.sampled_from(["big", "little"]),
    st.data(),
)
def test_an_integer_survives_the_register(kind, scale, order, data):
    bits = int(kind[1:])
    low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    value = data.draw(st.integers(low, high)) * Fraction(scale)
    reg = Reg("w", 3, 0, kind, Fraction(scale))
    words = encode(reg, value, order)
    assert len(words) == reg.count
    assert decode(reg, words, order) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["big", "little"]))
def test_a_float_survives_the_register(value, order):
    reg = Reg("w", 3, 0, "f32")
    assert decode(reg, encode(reg, value, order), order) == Fraction(value)


@pytest.mark.parametrize("words", [(0x7FC0, 0x0000), (0x7F80, 0x0000), (0xFF80, 0x0000), (0xFFFF, 0xFFFF)])
def test_nan_and_infinity_are_missing(words):
    assert decode(Reg("w", 4, 0, "f32"), words, "big") is None


@pytest.mark.parametrize(("kind", "value"), [("u16", -1), ("u16", 65536), ("i16", 40000), ("f32", 1e39)])
def test_what_does_not_fit_is_not_encoded(kind, value):
    with pytest.raises(ValueError, match="does not fit its register"):
        encode(Reg("w", 4, 0, kind), value, "big")


def sent(**values):
    return {name: encode(TEST.regs[name], value, "big") for name, value in values.items()}


def test_a_plausible_reading_is_good():
    reading = measure(TEST, sent(w=1000, w_l1=400.2, w_l2=599.8, v_l1=230.2, hz=50.01))
    assert (reading.quality, reading.why) == ("good", "")
    assert reading.values == {"w": 1000, "w_l1": 400, "w_l2": 600, "v_l1": 230.2, "hz": 50.01}


def test_a_pattern_for_unavailable_is_missing_and_no_zero():
    reading = measure(
        TEST,
        {"w": (0x7FFF, 0xFFFF), "w_l1": (0, 10), "w_l2": (0, 0), "hz": (0x8000,), "v_l1": encode(TEST.regs["v_l1"], 230, "big")},
    )
    assert reading.quality == "good"
    assert reading.values == {"w_l1": 1, "w_l2": 0, "v_l1": 230.0}


def test_swapped_words_are_suspect_and_the_way_out_is_named():
    swapped = {name: words[::-1] for name, words in sent(v_l1=230.2, w=1000).items()}
    reading = measure(TEST, swapped)
    assert reading.quality == "suspect"
    assert 'try word_order = "little"' in reading.why
    assert "outside 85 to 300" in reading.why
    assert measure(replace(TEST, word_order="little"), swapped).values == {"v_l1": 230.2, "w": 1000}


def test_a_dead_phase_is_suspect_without_blaming_the_words():
    reading = measure(TEST, sent(v_l1=0))
    assert reading.quality == "suspect"
    assert "word_order" not in reading.why
    assert "is test the right model" in reading.why
    unreadable = {"v_l1": (0x0000, 0x7FC0)}  # turned, these words are NaN
    assert "word_order" not in measure(TEST, unreadable).why


# (w, w_l1, w_l2): 2 % of 1000 W is 20 W, of 100 W only 2 W, but 10 W are always allowed
@pytest.mark.parametrize(
    ("w", "w_l1", "w_l2", "quality"),
    [
        (1000, 400, 580, "good"),
        (1000, 400, 579, "suspect"),
        (100, 50, 40, "good"),
        (100, 50, 39, "suspect"),
        (-1000, -400, -620, "good"),
    ],
)
def test_the_phases_must_add_up(w, w_l1, w_l2, quality):
    reading = measure(TEST, sent(w=w, w_l1=w_l1, w_l2=w_l2))
    assert reading.quality == quality
    assert (quality == "good") == (reading.why == "")


# (in_w, out_w in 0.1 W; w)
@pytest.mark.parametrize(("in_w", "out_w", "w"), [(505, 0, 50), (0, 515, -52), (995, 994, 0), (0xFFFF, 0, None), (0, 0xFFFF, None)])
def test_derived_watts_are_made_of_raw_registers_that_are_not_shown(in_w, out_w, w):
    reading = measure(WIDE, {"in_w": (in_w,), "out_w": (out_w,)})
    assert reading.quality == "good"
    assert reading.values == ({} if w is None else {"w": w})
    assert w is None or type(reading.values["w"]) is int


def test_a_derived_quantity_is_checked_like_any_other():
    reading = measure(WIDE, {"in_w": (0,), "out_w": (2000,)})
    assert reading.quality == "suspect"
    assert "w reads -200, outside -100 to 100; is wide the right model (and not test or other), and is the phase" in reading.why
    turned = replace(WIDE, ranges={"va": (Fraction(-1), Fraction(1))})  # words of one register look the same either way
    assert "word_order" not in measure(turned, {"w_l1": (5,), "w_l2": (0,)}).why


def test_a_register_that_must_hold_a_number_tells_what_is_wrong():
    assert measure(WIDE, {"ident": (1648,), "require": (0, 7)}) == measure(WIDE, {})
    reading = measure(WIDE, {"ident": (340,), "require": (0, 3)})
    assert reading.quality == "suspect"
    assert reading.why == (
        "ident (register 0x000B) reads 340, not 1648 or 1650; is wide the right model (and not test or other)?; "
        "require (register 0x0002) reads 3, not 7; set its application to H"
    )
    assert reading.values == {}


def test_what_must_hold_a_number_is_asked_for_alone():
    blocks = [(block.fc, block.address, block.count, block.optional) for block in plan(WIDE, "all")]
    assert blocks == [(3, 11, 1, False), (4, 0, 2, False), (4, 2, 2, True), (4, 4, 3, False)]


def test_what_proves_a_map_is_what_is_slow():
    assert proofs(TEST) == ["v_l1", "hz"]
    assert proofs(WIDE) == ["ident"]  # hz comes with every read here, and some devices have no "require"
    assert proofs(replace(WIDE, regs={"hz": WIDE.regs["hz"]}, derived={}, ranges={"hz": WIDE.ranges["hz"]})) == []


@pytest.mark.parametrize(("w", "held"), [(50, (500, 0)), (-50, (0, 500)), (0, (0, 0))])
def test_a_pretend_meter_holds_the_words_of_what_it_shows(w, held):
    values = {"w": w, "w_l1": -30, "w_l2": 20, "va": -10, "hz": 50.0}
    words = words_of(WIDE, values)
    assert (*words["in_w"], *words["out_w"]) == held
    assert (words["ident"], words["require"]) == ((1648,), (0, 7))
    assert measure(WIDE, words).values == values
    sizes = replace(WIDE, directional=False)
    assert measure(sizes, words_of(sizes, values | {"va": 50})).values == values | {"w": abs(w), "w_l1": 30, "va": 50}


def test_a_pretend_meter_needs_every_value_and_room_for_it():
    with pytest.raises(KeyError):
        words_of(TEST, {"w": 1})
    with pytest.raises(ValueError, match="does not fit its register"):
        words_of(WIDE, {"w": 7000, "w_l1": 0, "w_l2": 0, "va": 0, "hz": 50})


@given(st.integers(-32768, 32767), st.sampled_from(["0.1", "1", "10"]))
def test_a_turned_register_survives_too(raw, scale):
    reg = Reg("w", 3, 0, "i16", -Fraction(scale))
    value = decode(reg, (raw & 0xFFFF,), "big")
    assert value == -raw * Fraction(scale)
    assert encode(reg, value, "big") == (raw & 0xFFFF,)


def test_the_plan_by_hand():
    blocks = [(block.address, block.count, [reg.name for reg in block.regs]) for block in plan(TEST, "all")]
    assert blocks == [(0, 2, ["v_l1"]), (10, 6, ["w", "w_l1", "w_l2"]), (30, 1, ["hz"])]
    assert [block.address for block in plan(TEST, "fast")] == [10]
    assert [block.address for block in plan(TEST, "slow")] == [0, 30]
    assert str(plan(TEST, "fast")[0]) == "registers 0x000A..0x000F (w, w_l1, w_l2)"


@pytest.mark.parametrize(
    ("limits", "blocks"),
    [
        ({"max_regs": 6}, [(10, 6), (30, 1)]),
        ({"max_regs": 5}, [(10, 4), (14, 2), (30, 1)]),
        ({"max_regs": 21, "max_gap": 14}, [(10, 21)]),
        ({"max_regs": 20, "max_gap": 14}, [(10, 6), (30, 1)]),
        ({"max_regs": 21, "max_gap": 13}, [(10, 6), (30, 1)]),
    ],
)
def test_a_block_grows_to_its_limits_and_no_further(limits, blocks):
    regs = {name: replace(reg, slow=False) for name, reg in TEST.regs.items() if name != "v_l1"}
    assert [(block.address, block.count) for block in plan(replace(TEST, regs=regs, **limits), "fast")] == blocks


def test_readable_addresses_include_the_small_holes_only():
    with_hole = replace(TEST, regs={**TEST.regs, "pf": Reg("pf", 4, 18, "i16"), "var": Reg("var", 3, 5, "i16")})
    assert readable(with_hole, 4) == [0, 1, *range(10, 19), 30]
    assert readable(with_hole, 3) == [5]
    assert readable(TEST, 3) == []


@st.composite
def maps(draw):
    align, regs, address = draw(st.sampled_from([1, 2])), {}, {3: 0, 4: 0}
    for name in draw(st.lists(st.sampled_from(QUANTITIES), unique=True, min_size=1)):
        fc, kind = (
            draw(st.sampled_from([3, 4])),
            draw(st.sampled_from([kind for kind in FORMATS if align == 1 or kind[1:] != "16"])),
        )
        address[fc] += draw(st.sampled_from([0, 0, 0, 1, 3, 12])) * align
        regs[name] = Reg(name, fc, address[fc], kind, slow=draw(st.booleans()), optional=draw(st.booleans()))
        address[fc] = regs[name].end
    return replace(TEST, regs=regs, align=align, max_regs=draw(st.integers(4, 30)), max_gap=draw(st.integers(0, 10)))


@given(maps(), st.sampled_from(["fast", "slow", "all"]))
def test_the_plan_covers_every_register_once_within_the_limits(map_, rate):
    blocks = plan(map_, rate)
    asked = [reg for block in blocks for reg in block.regs]
    assert sorted(reg.name for reg in asked) == sorted(
        reg.name for reg in map_.regs.values() if rate == "all" or reg.slow == (rate == "slow")
    )
    for block in blocks:
        assert 1 <= block.count <= map_.max_regs
        assert block.address % map_.align == block.count % map_.align == 0
        assert all(
            reg.fc == block.fc and block.address <= reg.address and reg.end <= block.address + block.count for reg in block.regs
        )
        assert all(b.address - a.end <= map_.max_gap for a, b in zip(block.regs, block.regs[1:], strict=False))
        assert len(block.regs) == 1 or not any(reg.optional for reg in block.regs)


def test_numbers_of_a_map_are_exact():
    assert TEST.regs["w"].scale == Fraction(1, 10)
    assert TEST.regs["hz"].missing == {0xFFFF, 0x8000}
    assert TEST.sum_rel == Fraction(2, 100)
    assert struct.calcsize(">f") == 2 * TEST.regs["v_l1"].count
