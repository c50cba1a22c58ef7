"""Wrong map files: each mistake is told with file, line and way out, and none breaks the loader."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_mapfile import WIDE
from test_registers import MINIMAL

from drivers.mapfile import parse
from drivers.registers import MapError

# (what to change in MINIMAL, into what, words of the message)
PLAIN = [
    ("phases = 3", "phases = ", ["test.toml", "line 5", "Correct the TOML"]),
    ("max_gap", "max_gpa", ["unknown field `max_gpa`", "$.read", "Did you mean 'max_gap'?"]),
    ("vendor", "qqqqqq", ["unknown field `qqqqqq`"]),
    ('type = "f32"', 'type = "float"', ["$.regs[...].type", "'float'"]),
    ('id = "test"', 'id = "Te st"', ["test.toml:2: meter.id", "small letters"]),
    (
        "[read]",
        '[link]\nframing = "9X3"\nunit = 300\n[read]',
        ["test.toml:9: link.framing", "like 8N1", "test.toml:10: link.unit: 300"],
    ),
    ("max_regs = 10", "max_regs = 126", ["test.toml:10: read.max_regs", "1 to 125"]),
    ("max_gap = 2", "max_gap = -1", ["read.align", "max_gap 0 or more"]),
    ("fc = 4", "fc = 5", ["regs.w", "must be 3 (holding) or 4 (input)"]),
    ("v_l1 = { at", "v_11 = { at", ["test.toml:16: regs.v_11", "did you mean 'v_l1'?"]),
    ("v_l1 = { at", "qqqq = { at", ["regs.qqqq", "choose of w, w_l1"]),
    ("scale = 0.01", "scale = -0.01", ["regs.hz", "flip = true"]),
    ("at = 30", "at = 65536", ["test.toml:17: regs.hz", "0 to 65535", "address + 1"]),
    ("max_regs = 10", "max_regs = 1", ["regs.w", "fills 2 registers, but max_regs is 1"]),
    ("max_gap = 2", "max_gap = 2\nalign = 2", ["regs.hz", "multiples of align = 2"]),
    ("missing = 0x7FFFFFFF", "missing = -1", ["regs.w", "unsigned number below 2^32"]),
    ("missing = 0x7FFFFFFF", "slow = true", ["regs.w", "neither slow nor optional"]),
    ("w = { at", "va = { at", ["regs.w", "every map needs the total watts"]),
    ("at = 12", "at = 11", ["test.toml:14: regs.w_l1", "overlaps w"]),
    ("range = { v_l1", "range = { v_l2", ["check.range.v_l2", "[regs] has not"]),
    ("[44, 66]", "[66, 44]", ["check.range.hz", "66 must be below 44"]),
    ('["w_l1", "w_l2"]', '["w_l1", "v_l1"]', ["check.sum.w", "asked for as often"]),
    ("sum = { w =", "sum = { w_l3 =", ["check.sum.w_l3", "[regs] has not"]),
    ("[check]", '[example]\nhz = { words = [1, 2], reads = 50, source = "" }\n[check]', ["test.toml:19: example.hz", "1 numbers"]),
    ("[check]", '[example]\npf = { words = [1], reads = 50, source = "" }\n[check]', ["example.pf", "[regs] has not"]),
]


# (what to change, into what, words of the message)
MORE = [
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


@pytest.mark.parametrize(
    ("text", "name", "old", "new", "said"),
    [*((MINIMAL, "test.toml", *row) for row in PLAIN), *((WIDE, "wide.toml", *row) for row in MORE)],
)
def test_a_wrong_map_is_refused_with_place_and_way_out(text, name, old, new, said):
    assert old in text
    with pytest.raises(MapError) as refused:
        parse(text.replace(old, new, 1), name)
    for words in said:
        assert words in str(refused.value)


def test_all_problems_of_the_registers_are_told_at_once():
    with pytest.raises(MapError) as refused:
        parse(MINIMAL.replace("at = 30", "at = 99999").replace("at = 12", "at = 11"), "test.toml")
    assert len(str(refused.value).splitlines()) == 2


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
