"""Map files: what a map may say beyond plain registers, and how each mistake is told with file, line and way out."""

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mapfile import parse
from drivers.registers import MapError, measure

WIDE = """\
[meter]
id = "wide"
vendor = "Nobody"
models = ["W1"]
phases = 3
trust = "B"
sources = ["made for this test"]
device = "generator"
flip = true
directional = false
alike = ["other"]
[link]
tcp_port = 1502
unit = 100
connect_delay_ms = 1500
single_client = true
[read]
fc = 3
timeout_ms = 5000
[ident]
at = 11
type = "u16"
one_of = [1650, 1648]
[require]
at = 20
type = "u32"
fc = 4
one_of = [7]
say = "set it to H"
[regs]
a = { at = 0, type = "u16", raw = true }
b = { at = 1, type = "u16", raw = true }
w_l1 = { at = 2, type = "i16", scale = 0.1 }
w_l2 = { at = 3, type = "i16", scale = 0.1 }
w_l3 = { at = 4, type = "i16", scale = 0.1, missing = 0x8000 }
export_wh = { at = 6, type = "u32", slow = true }
import_wh = { at = 8, type = "u32", slow = true }
[derive]
w = { sum = ["w_l1", "w_l2", "w_l3"] }
va = { sum = ["a", "-b"] }
[check]
range = { w = [-100, 100] }
sum = { w = ["w_l1", "w_l2", "w_l3"] }
wrap_wh = 9999
[example]
w = { words = { w_l1 = [10], w_l2 = [20], w_l3 = [65526] }, reads = -2, source = "1 + 2 - 1 W made" }
w_l1 = { words = [10], reads = -1, source = "1 W made" }
"""
OTHER = """\
[meter]
id = "other"
vendor = "Nobody"
models = ["O1"]
phases = 1
trust = "A"
sources = ["made for this test"]
protocol = "p1"
[link]
baud = 115200
"""


def test_a_map_says_all_this():
    map_ = parse(WIDE, "wide.toml")
    assert (map_.protocol, map_.device, map_.directional, map_.alike) == ("modbus", "generator", False, ("other",))
    assert (map_.tcp_port, map_.connect_delay_s, map_.single_client, map_.timeout_s) == (1502, 1.5, True, 5.0)
    assert map_.wrap_wh == 9999
    assert map_.derived == {"w": ((1, "w_l1"), (1, "w_l2"), (1, "w_l3")), "va": ((1, "a"), (-1, "b"))}
    ident, require = map_.regs["ident"], map_.regs["require"]
    assert (ident.fc, ident.address, ident.one_of, ident.slow, ident.alone, ident.say) == (3, 11, {1648, 1650}, True, True, "")
    assert (require.fc, require.one_of, require.say) == (4, {7}, "set it to H")
    for example in map_.examples:
        assert measure(map_, example.words).values[example.name] == example.value


def test_flip_turns_the_watts_and_leaves_the_counters_their_names():
    map_ = parse(WIDE, "wide.toml")
    assert map_.regs["w_l1"].scale == Fraction(-1, 10)
    assert map_.regs["export_wh"].scale == 1
    with pytest.raises(
        MapError, match=r"wide\.toml:46: example\.w: its words make 2, not -2; are type, scale and word_order right"
    ):
        parse(WIDE.replace("flip = true", ""), "wide.toml")
    straight = parse(WIDE.replace("flip = true", "").partition("[example]")[0], "wide.toml")
    raw = {"w_l1": (100,), "w_l2": (0,), "w_l3": (0,), "export_wh": (0, 5), "import_wh": (0, 6)}
    assert measure(map_, raw).values == {"w": -10, "w_l1": -10, "w_l2": 0, "w_l3": 0, "export_wh": 5, "import_wh": 6}
    assert measure(straight, raw).values == {"w": 10, "w_l1": 10, "w_l2": 0, "w_l3": 0, "export_wh": 5, "import_wh": 6}


def test_another_protocol_needs_no_registers():
    map_ = parse(OTHER, "other.toml")
    assert (map_.id, map_.protocol, map_.baud, map_.tcp_port) == ("other", "p1", 115200, None)
    assert map_.regs == map_.ranges == map_.derived == {}
    assert map_.examples == ()


# (what to change, into what, words of the message)
REFUSED = [
    # types: told by key and line, also inside the rows of a table
    ('trust = "B"', 'trust = "D"', ["wide.toml:6: meter.trust:", "'D'"]),
    ('device = "generator"', 'device = "panel"', ["wide.toml:8: meter.device:", "'panel'"]),
    ("tcp_port = 1502", 'tcp_port = "502"', ["wide.toml:13: link.tcp_port: Expected `int | null`, got `str`"]),
    ("fc = 3\n", "", ["wide.toml:17: read.fc: Object missing required field `fc`", "as the maps of drivers/meters"]),
    ("flip = true", "filp = true", ["wide.toml:9: meter.filp:", "Did you mean 'flip'?"]),
    ("flip = true", "qqqqqq = true", ["wide.toml:9: meter.qqqqqq:", ". Remove it"]),
    ('w_l2 = { at = 3, type = "i16"', 'w_l2 = { at = 3, type = "int"', ["wide.toml:34: regs.w_l2.type:", "'int'"]),
    ('w_l2 = { at = 3, type = "i16"', 'w_l2 = { at = 3, tpye = "i16"', ["wide.toml:34: regs.w_l2.tpye:", "Did you mean 'type'?"]),
    ('["a", "-b"]', '["a", 5]', ["wide.toml:40: derive.va.sum:"]),
    ('{ sum = ["a", "-b"] }', '["a", "-b"]', ["wide.toml:40: derive.va:", "Expected `object`"]),
    ("words = [10]", 'words = ["10"]', ["wide.toml:47: example.w_l1.words:"]),
    ("[-100, 100]", "[-100]", ["wide.toml:42: check.range:"]),
    ("one_of = [7]", "one_of = 7", ["wide.toml:28: require.one_of:"]),
    ("[meter]", "[metre]", ["wide.toml:1: metre:", "Did you mean 'meter'?"]),
    (WIDE, "", ["wide.toml: meter: Object missing required field `meter`"]),
    # values
    ("phases = 3", "phases = 4", ["wide.toml:5: meter.phases: 4 must be 1, 2 or 3"]),
    ("phases = 3", "phases = 0", ["wide.toml:5: meter.phases: 0 must be"]),
    # TOML's hexadecimal numbers have no end, and CPython does not print one of thousands of digits
    *(
        (old, f"{old.partition('=')[0]}= 0x1{'0' * 6000}", [f"wide.toml:{line}: {key}: Expected `int"])
        for old, line, key in (
            ("phases = 3", 5, "meter.phases"),
            ("fc = 3", 18, "read.fc"),
            ("wrap_wh = 9999", 44, "check.wrap_wh"),
        )
    ),
    ("one_of = [7]", f"one_of = [0x1{'0' * 6000}]", ["wide.toml:24: require: one_of must list numbers below 2^32"]),
    ("missing = 0x8000", f"missing = 0x1{'0' * 6000}", ["wide.toml:35: regs.w_l3", "unsigned number below 2^16"]),
    ("reads = -1,", f"reads = 0x1{'0' * 6000},", ["wide.toml:47: example.w_l1.reads: Expected"]),
    ("words = [10]", f"words = [0x1{'0' * 6000}]", ["wide.toml:47: example.w_l1.words"]),
    (WIDE, f"a{'.a' * 5000} = 1", ["wide.toml: a: Object contains unknown field `a`"]),  # so deep may dotted keys go
    ("scale = 0.1", "scale = -0.1", ["wide.toml:33: regs.w_l1: scale must be above 0", "flip = true"]),
    ("scale = 0.1", "scale = nan", ["wide.toml:33: nan is no number that a meter can have"]),
    ("[-100, 100]", "[-inf, 100]", ["wide.toml:42: -inf is no number"]),
    ("reads = -1,", "reads = 1e999,", ["wide.toml:47: 1e999 is no number"]),
    ("w_l1 = { words = [10]", "a = { words = [10]", ["wide.toml:47: example.a: names a quantity that [regs] has not"]),
    ("[10], w_l2 = [20]", "[10], w_l9 = [20]", ["wide.toml:46: example.w: words must be"]),
    ('"w_l3"] }\nva', '"w_l9"] }\nva', ["wide.toml:39: derive.w: sum must list registers"]),
    ("tcp_port = 1502", "tcp_port = 0", ["wide.toml:13: link.tcp_port: 0 must be 1 to 65535"]),
    ("connect_delay_ms = 1500", "connect_delay_ms = -1", ["wide.toml:15: link.connect_delay_ms", "0 or more"]),
    ("one_of = [1650, 1648]", "one_of = []", ["wide.toml:20: ident: one_of must list numbers below 2^16"]),
    ("one_of = [1650, 1648]", "one_of = [65536]", ["wide.toml:20: ident: one_of"]),
    ('at = 11\ntype = "u16"', 'at = 11\ntype = "i16"', ["wide.toml:20: ident:", "type must be u16, u32 or u64"]),
    ("at = 11", "at = 70000", ["wide.toml:20: ident: at = 70000 must be 0 to 65535"]),
    ("at = 11", "at = 7", ["wide.toml:20: ident: overlaps export_wh"]),
    ("a = { at = 0", "ident = { at = 0", ["wide.toml:31: regs.ident", "give it a name of its own"]),
    ("a = { at = 0", "pf = { at = 0", ["wide.toml:31: regs.pf: raw = true is for what is no quantity"]),
    (
        'a = { at = 0, type = "u16", raw = true',
        'a = { at = 0, type = "u16"',
        ["wide.toml:31: regs.a: no such", "did you mean 'va'?"],
    ),
    ('va = { sum = ["a", "-b"] }', "", ["wide.toml:31: regs.a: is raw, but nothing is derived", "wide.toml:32: regs.b"]),
    ("va = {", "vv = {", ["wide.toml:40: derive.vv: must be a quantity that [regs] has not"]),
    ("va = {", "w_l1 = {", ["derive.w_l1: must be a quantity that [regs] has not"]),
    ('["a", "-b"]', '["a", "-c"]', ["wide.toml:40: derive.va: sum must list registers"]),
    ('["a", "-b"]', "[]", ["wide.toml:40: derive.va: sum must list registers"]),
    ('["a", "-b"]', '["a", "-b", "export_wh"]', ["wide.toml:40: derive.va:", "all slow or none"]),
    ("va = {", "var = {", ["wide.toml:40: derive.var: flip = true does not reach raw registers; write their signs"]),
    ("w_l2 = { at = 3,", "w_l2 = { at = 3, optional = true,", ["regs.w: every map needs the total watts, here or in [derive]"]),
    ("w = { sum", "pf = { sum", ["regs.w: every map needs the total watts"]),
    ('sum = { w = ["w_l1"', 'sum = { w = ["export_wh"', ["check.sum.w", "as often as the total"]),
    ("sum = { w = ", "sum = { hz = ", ["check.sum.hz", "[regs] has not"]),
    ("wrap_wh = 9999", "wrap_wh = 0", ["wide.toml:44: check.wrap_wh", "leave it out"]),
    ("w_l3 = [65526]", "w_l3 = [65526, 1]", ["wide.toml:46: example.w:", "1 numbers of 0 to 0xFFFF for w_l1, 1 numbers"]),
    ("w_l3 = [65526]", "w_l3 = [65536]", ["wide.toml:46: example.w:"]),
    (", w_l3 = [65526]", "", ["wide.toml:46: example.w:", "for w_l3"]),
    ("words = { w_l1 = [10], w_l2 = [20], w_l3 = [65526] }", "words = [1]", ["wide.toml:46: example.w:"]),
    ("missing = 0x8000", "missing = -32768", ["wide.toml:35: regs.w_l3", "unsigned number below 2^16, like 0x80000000"]),
    ("[read]\nfc = 3\ntimeout_ms = 5000\n", "", ["wide.toml: read: is missing", "like fc = 4"]),
    ('device = "generator"', 'protocol = "sml"', ['wide.toml:17: read: a meter of protocol "sml" has no registers; remove it']),
    (
        'device = "generator"',
        'protocol = "sml"',
        ["wide.toml:20: ident:", "wide.toml:30: regs:", "wide.toml:38: derive:", ":45: example:"],
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), REFUSED)
def test_a_wrong_map_is_refused_with_place_and_way_out(old, new, said):
    assert old in WIDE
    with pytest.raises(MapError) as refused:
        parse(WIDE.replace(old, new, 1), "wide.toml")
    for words in said:
        assert words in str(refused.value)


def test_a_row_may_be_a_table_of_its_own():
    text = WIDE.replace('a = { at = 0, type = "u16", raw = true }\n', "").replace(
        "[derive]", '[regs.a]\nat = 0\ntype = "u32"\nraw = true\n[derive]'
    )
    with pytest.raises(MapError, match=r"wide\.toml:31: regs\.b: overlaps a"):
        parse(text, "wide.toml")
    with pytest.raises(MapError, match=r"wide\.toml:40: regs\.a\.raw: Expected `bool`, got `int`"):
        parse(text.replace("raw = true\n[derive]", "raw = 1\n[derive]"), "wide.toml")


class Told(Exception):
    pass


def told(text):
    """The map; or Told when each line of what is wrong begins with the file's name."""
    try:
        return parse(text, "wide.toml")
    except MapError as error:
        if all(line.startswith("wide.toml:") for line in str(error).splitlines()):
            raise Told from error
        raise


@given(
    st.integers(0, len(WIDE.splitlines()) - 1),
    st.sampled_from(["", "delete", "twice", "end", "word"]),
    st.sampled_from(["true", "0", "-1", "99999999999999999999", "1e400", '""', "[]", "{}", "[[1]]", "2026-11-22", '"w"']),
)
def test_a_damaged_map_is_told_by_its_file_and_never_breaks_the_loader(at, how, value):
    lines = WIDE.splitlines()
    head, equals, tail = lines[at].partition("=")
    if how == "delete":
        del lines[at]
    elif how == "twice":
        lines.insert(at, lines[at])
    elif how == "end":
        del lines[at:]
    elif how == "word":
        lines[at] = f"{head}x{equals}{tail}"
    else:
        lines[at] = f"{head}= {value}" if equals else f"[{value}]"
    with suppress(Told):
        assert told("\n".join(lines)).id
