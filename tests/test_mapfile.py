"""Map files: what a map may say beyond plain registers, and how each mistake is told with file, line and way out."""

from fractions import Fraction

import pytest

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
