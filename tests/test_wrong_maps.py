"""Wrong map files: each mistake in plain registers is told with file, line and way out."""

import pytest
from test_registers import MINIMAL

from drivers.mapfile import parse
from drivers.registers import MapError

# (what to change in MINIMAL, into what, words of the message)
REFUSED = [
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


@pytest.mark.parametrize(("old", "new", "said"), REFUSED)
def test_a_wrong_map_is_refused_with_place_and_way_out(old, new, said):
    assert old in MINIMAL
    with pytest.raises(MapError) as refused:
        parse(MINIMAL.replace(old, new, 1), "test.toml")
    for words in said:
        assert words in str(refused.value)


def test_all_problems_of_the_registers_are_told_at_once():
    with pytest.raises(MapError) as refused:
        parse(MINIMAL.replace("at = 30", "at = 99999").replace("at = 12", "at = 11"), "test.toml")
    assert len(str(refused.value).splitlines()) == 2
