"""P1 telegrams: values by hand, what is refused and why, any chunking, flips, holes and noise."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoil import Wire, eight_bits, parity_one_a_byte, strike
from telegrams import BELGIUM, DUTCH_2, NETHERLANDS_5, Q3D, SWEDEN, p1

from drivers.p1 import MOST_LINE, MOST_TELEGRAM, P1, crc16
from drivers.reading import QUANTITIES, Reading

FIXTURES = Path(__file__).parent.parent.parent / "shared" / "fixtures" / "p1"
CODES = {"dsmr": "1-3:0.2.8(50)", "w": "1-0:1.7.0(00.500*kW)", "out": "1-0:2.7.0(00.000*kW)"}


def tell(*lines: str, crc: bool = True) -> bytes:
    return p1("\n".join(("/TST5meter", "", *lines)), crc)


def one(data: bytes) -> Reading:
    reader = P1()
    made = reader.feed(data)
    assert (len(made), reader.damaged) == (1, 0)
    return made[0]


def refused(data: bytes) -> bool:
    reader = P1()
    return (reader.feed(data), reader.damaged) == ([], 1)


# (telegram, all its values)
BY_HAND = [
    # 0 - 2.317 kW; 0 - 868, 207 - 0, 0 - 1656 W; 4711.815 + 3920.402 and 1203.650 + 2861.977 kWh
    (
        NETHERLANDS_5,
        {"w": -2317, "w_l1": -868, "w_l2": 207, "w_l3": -1656, "v_l1": 231.4, "v_l2": 229.8, "v_l3": 233.0}
        | {"a_l1": 4.0, "a_l2": 1.0, "a_l3": 9.0, "import_wh": 8632217, "export_wh": 4065627},
    ),
    # 612.034 + 815.758 and 3.000 + 1.011 kWh
    (BELGIUM, {"w": 1412, "w_l1": 1412, "v_l1": 234.7, "a_l1": 6.21, "import_wh": 1427792, "export_wh": 4011}),
    # var: 0 - 0.309 kVAr
    (
        SWEDEN,
        {"w": 1727, "w_l1": 1023, "w_l2": 350, "w_l3": 353, "var": -309, "hz": 49.98, "import_wh": 6678394, "export_wh": 0},
    ),
    # 0 - 1.37 kW; 211.407 + 198.012 and 7.300 + 1.001 kWh
    (DUTCH_2, {"w": -1370, "import_wh": 409419, "export_wh": 8301}),
    # -1116.77, -1128.41, 11.64 W to whole ones; 14869.2594317 and 312.00005 kWh
    (Q3D, {"w": -1117, "w_l1": -1128, "w_l2": 0, "w_l3": 12, "import_wh": 14869259, "export_wh": 312000}),
]


@pytest.mark.parametrize(("telegram", "values"), BY_HAND)
def test_the_values_by_hand(telegram, values):
    reading = one(telegram)
    assert reading == Reading("good", "", values)
    assert all(isinstance(reading.values[name], int) for name in values if name.startswith(("w", "var", "im", "ex")))
    assert values.keys() <= set(QUANTITIES)


# (lines of a telegram, its w, import_wh, export_wh; None where there is none)
LINES = [
    (["1-0:1.7.0(00542*W)", "1-0:2.7.0(00000*W)"], 542, None, None),
    (["1-0:1.7.0(00.542*KW)", "1-0:2.7.0(01.000*KW)"], -458, None, None),
    (["1-0:1.7.0(00.542*kW)"], 542, None, None),  # a meter that only draws
    (["1-0:1.7.0(0.0005*kW)"], 0, None, None),  # half to even: 0.5 W
    (["1-0:1.7.0(0.0015*kW)"], 2, None, None),  # 1.5 W
    (["1-0:16.7.0*255(-000123.60*W)"], -124, None, None),
    (["1-0:16.7.0*255(+000123.60*W)"], 124, None, None),
    (["1-0:1.7.0(00.100*kW)", "1-0:16.7.0(00.900*kW)"], 100, None, None),
    (["1-0:1.7.0(00.000*kW)", "1-0:1.8.0(000009.000*kWh)", "1-0:1.8.1(000004.000*kWh)"], 0, 9000, None),  # the total counts
    (["1-0:1.7.0(00.000*kW)", *(f"1-0:2.8.{i}(00000{i}.000*kWh)" for i in range(1, 5))], 0, None, 10000),  # 1 + 2 + 3 + 4
    (["1-0:1.7.0(00.000*kW)", "1-0:1.8.0(0000012345*Wh)"], 0, 12345, None),
    # a tariff that cannot be read makes the sum unknown, not smaller; a counter has no sign
    (["1-0:1.7.0(00.000*kW)", "1-0:1.8.1(000004.000*kWh)", "1-0:1.8.2(*kWh)"], 0, None, None),
    (["1-0:1.7.0(00.000*kW)", "1-0:1.8.0(-00004.000*kWh)", "1-0:2.8.0(000004.000*kW)"], 0, None, None),
]


@pytest.mark.parametrize(("lines", "w", "import_wh", "export_wh"), LINES)
def test_units_signs_and_sums(lines, w, import_wh, export_wh):
    reading = one(tell(*lines))
    assert reading.quality == "good"
    assert tuple(reading.values.get(name) for name in ("w", "import_wh", "export_wh")) == (w, import_wh, export_wh)


# (telegram, a word of why)
ABSENT = [
    (tell("1-3:0.2.8(50)", "1-0:1.8.0(000001.000*kWh)"), "sends no power (1-0:1.7.0)"),
    (tell(CODES["out"]), "1-0:2.7.0(00.000*kW)"),  # what flows in is not known: not 0
    (tell("1-0:1.7.0(00.500*kW)", "1-0:2.7.0(*kW)"), "1-0:2.7.0(*kW)"),
    (tell("1-0:1.7.0(00.500*kWh)"), "1-0:1.7.0(00.500*kWh)"),
    (tell("1-0:1.7.0(00.500)"), "cannot be used"),
    (tell("1-0:1.7.0*255(-00.500*kW)", "1-0:2.7.0*255(00.500*kW)"), "1-0:1.7.0(-00.500*kW), 1-0:2.7.0(00.500*kW)"),
    (tell("1-0:1.7.0(00.500*kW)", "1-0:1.7.0*255(00.600*kW)"), "1-0:1.7.0 twice"),
    (tell("1-0:1.7.0(00.500*kW)", "what (is) this", "and this"), "'what (is) this'"),
    (p1("/TST5\x07meter\n\n1-0:1.7.0(00.500*kW)"), "the telegram's name is '/TST5\\x07meter'"),
]


@pytest.mark.parametrize(("telegram", "why"), ABSENT)
def test_an_intact_telegram_without_power_says_why(telegram, why):
    reading = one(telegram)
    assert reading.quality == "absent"
    assert "w" not in reading.values
    assert why in reading.why


def test_the_check_value_of_the_crc():
    assert crc16(b"123456789") == 0xBB3D  # CRC-16/ARC


def small_crc() -> bytes:
    return next(made for i in range(1000) if (made := tell(CODES["w"], f"0-0:96.14.0({i:04})"))[-6:-5] == b"0")


@pytest.mark.parametrize(
    "told",
    [
        re.sub(rb"!0+", b"!", small_crc()),
        NETHERLANDS_5[:-2] + b"\x00\r\n",
        NETHERLANDS_5[:-6] + NETHERLANDS_5[-6:].lower(),
        b"\x00\xff!\r\n/?" + NETHERLANDS_5,
        NETHERLANDS_5[40:] + NETHERLANDS_5,
    ],
)
def test_unpadded_with_nul_small_letters_and_mid_stream(told):
    assert one(told).quality == "good"


# Two telegrams of meters without CRC, each with one thing that the meter never sends, and how it differs.
PLAIN = DUTCH_2.decode()


@pytest.mark.parametrize(
    "told",
    [
        PLAIN.replace("1-0:2.7.0(0001.37*kW)\r\n", ""),
        PLAIN.replace("1-0:2.8.1(00007.300*kWh)\r\n", ""),
        PLAIN.replace("1-0:1.7.0(0000.00*kW)", "1-0:1.7.0(000.00*kW)"),
        PLAIN.replace("(00211.407*kWh)", "(0211.407*kWh)"),
        PLAIN.replace("0-0:96.14.0(0001)", "0-0:96.14.0(0001"),
        PLAIN.replace("0-0:96.14.0(0001)", "0-0:96.14.0(00\x001)"),
        PLAIN.replace("0-0:96.14.0(0001)", "1-3:0.2.8(42)"),
        PLAIN.replace("0-0:96.14.0(0001)", "0-0:1.0.0(260411130507S)"),
        PLAIN.replace("0-0:96.14.0(0001)", "0-0:96.1.4(50221)"),
        PLAIN.replace("0-0:96.14.0(0001)", "1-0:1.7.0*255(0000.00*kW)"),
        PLAIN.replace("MT382", "MT\x00382"),
        PLAIN.replace("!\r\n", "!\x00\r\n"),
        PLAIN.replace("!\r\n", "!12345\r\n"),
        PLAIN.replace("!\r\n", "! \r\n"),
        Q3D.decode().replace("1-0:41.7.0*255(000000.00*W)\r\n", ""),
        Q3D.decode().replace("(000000.00*W)", "(00000.00*W)"),
    ],
)
def test_without_crc_whatever_looks_odd_is_thrown_away(told):
    assert told not in (PLAIN, Q3D.decode())
    assert refused(told.encode("latin-1"))
    assert refused(told.encode("latin-1").replace(b"\x00", b"\xb5")) or "\x00" not in told


@pytest.mark.parametrize("telegram", [NETHERLANDS_5, DUTCH_2])
def test_a_nul_spoils_the_telegram_under_way_and_no_other(telegram):
    """So a port that lost bytes or was silent too long can say so to the reader."""
    reader = P1()
    assert [len(reader.feed(piece)) for piece in (b"\x00", telegram[:99], b"\x00", telegram[99:], b"\x00", telegram)] == [
        0,
        0,
        0,
        0,
        0,
        1,
    ]
    assert reader.damaged == 1


def test_once_there_was_a_crc_none_without_is_taken():
    reader = P1()
    assert len(reader.feed(DUTCH_2 + NETHERLANDS_5 + DUTCH_2)) == 2
    assert reader.damaged == 1


def test_without_crc_a_telegram_of_other_lines_is_taken_only_the_second_time():
    reader = P1()
    other = DUTCH_2.replace(b"0-0:96.3.10(1)\r\n", b"")
    assert [len(reader.feed(telegram)) for telegram in (DUTCH_2, other, other, DUTCH_2, DUTCH_2)] == [1, 0, 1, 0, 1]
    assert reader.damaged == 2


def test_without_crc_phases_that_do_not_make_the_total_are_suspect():
    # -1128.41 + 0.00 + 11.64 = -1116.77 W; 2 % of 1127 W are 22 W
    near, far = Q3D.replace(b"-001116.77", b"-001127.00"), Q3D.replace(b"-001116.77", b"-001176.77")
    assert one(near).quality == "good"
    assert (one(far).quality, one(far).values["w"]) == ("suspect", -1177)
    assert "clean and seat the optical head" in one(far).why


def test_a_telegram_cut_off_by_the_next_counts_as_damaged_and_noise_does_not():
    reader = P1()
    assert len(reader.feed(b"!\r\nabc\r\n" + NETHERLANDS_5[:300] + NETHERLANDS_5)) == 1
    assert reader.damaged == 1


@pytest.mark.parametrize("noise", [b"x" * (MOST_LINE + 1), b"0-0:1.1.1()\r\n" * (MOST_TELEGRAM // 13 + 1), b"x" * 300_000])
def test_what_is_held_is_bounded(noise):
    reader = P1()
    for at in range(0, len(noise), 1000):
        reader.feed((b"/TST5meter\r\n" if at == 0 else b"") + noise[at : at + 1000])
        assert len(reader._line) <= MOST_LINE + 1
        assert len(reader._telegram) <= MOST_TELEGRAM
    assert len(reader.feed(b"\r\n" + NETHERLANDS_5)) == 1
    assert reader.damaged == 1


STREAM = b"".join((SWEDEN[200:], BELGIUM, b"\x00", BELGIUM[:100], SWEDEN, BELGIUM.replace(b"01.412", b"01.413"), SWEDEN))


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_chunking_gives_the_same(cuts):
    whole, cut = P1(), P1()
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(places)]
    assert [reading for piece in pieces for reading in cut.feed(piece)] == whole.feed(STREAM)
    assert (cut.damaged, whole.damaged) == (2, 2)


@pytest.mark.parametrize("telegram", [NETHERLANDS_5, DUTCH_2])
def test_byte_by_byte_the_reading_comes_with_the_last(telegram):
    reader = P1()
    made = [len(reader.feed(bytes([byte]))) for byte in telegram]
    assert made == [0] * (len(telegram) - 1) + [1]


@given(st.lists(st.one_of(st.binary(), st.sampled_from([b"/TST5", b"\r\n", b"!", b"!0000\r\n", b"1-0:1.7.0(", b"*kW)", b"\n"]))))
def test_no_bytes_raise(pieces):
    reader = P1()
    assert [
        reading for piece in pieces for reading in reader.feed(piece) if reading.quality == "good" and "w" not in reading.values
    ] == []
    assert reader.feed(b"\r\n" + SWEDEN)[-1].values["w"] == 1727


def test_two_telegrams_with_a_hole_between_them_give_one_of_them_or_nothing():
    before, after = NETHERLANDS_5, NETHERLANDS_5.replace(b"02.317", b"01.900").replace(b"2861.977", b"2861.979")
    after = p1(after.decode().replace("\r\n", "\n")[:-6])  # with its own CRC
    told = [one(before).values, one(after).values]
    assert told[0] != told[1]
    for begin in range(0, len(before), 23):
        for end in range(0, len(after), 19):
            made = P1().feed(before[:begin] + after[end:])
            assert all(reading.values in told for reading in made), (begin, end)


def test_a_single_flipped_bit_gives_no_reading_unless_it_makes_a_small_letter_of_the_crc():
    short = tell(*CODES.values(), "1-0:1.8.1(004711.815*kWh)", "1-0:1.8.2(003920.402*kWh)")
    for at in range(len(short)):
        for mask in (1 << bit for bit in range(8)):
            made = P1().feed(short[:at] + bytes([short[at] ^ mask]) + short[at + 1 :])
            assert bool(made) == (at >= len(short) - 6 and mask == 0x20 and short[at : at + 1].isalpha()), (at, mask)
            assert all(reading == one(short) for reading in made)


@pytest.mark.parametrize("telegram", [DUTCH_2, Q3D])
def test_without_crc_a_byte_of_wrong_parity_gives_no_reading(telegram):
    for at in range(len(telegram)):
        assert P1().feed(telegram[:at] + b"\x00" + telegram[at + 1 :]) == [], at


@pytest.mark.parametrize(
    ("telegrams", "wire", "tries"),
    [((NETHERLANDS_5, BELGIUM, SWEDEN), eight_bits, 600), ((DUTCH_2, Q3D), parity_one_a_byte, 1000)],
)
def test_flipped_bits_give_no_wrong_value_and_do_not_cost_the_next_telegram(telegrams, wire: Wire, tries):
    struck = strike(P1, telegrams, wire, tries, "test")
    assert (struck.wrong, struck.lost) == (0, 0)


# (recording, w, w by phase, import, export) by hand from its lines
RECORDED = [
    ("dsmr-v2.2", 1010, [], 2002, 2002),  # 1.01 - 0.00 kW; 1.001 + 1.001 kWh
    ("dsmr-v3", 1190, [], 24691356, 24691356),
    ("dsmr-v4.2", 2027, [170, 1247, 209], 3016829, 0),  # 1581.123 + 1435.706 kWh
    ("dsmr-v5", 244, [70, 32, 142], 6825, 2444),
    ("fluvius-v1.7.1", 0, [0, 0, 0], 15792, 11),
]


@pytest.mark.parametrize(("name", "w", "phases", "import_wh", "export_wh"), RECORDED)
def test_recordings_of_real_meters(name, w, phases, import_wh, export_wh):
    path = FIXTURES / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"{path.name}: the recordings are not shipped")
    values = one(path.read_bytes()).values
    assert (values["w"], values["import_wh"], values["export_wh"]) == (w, import_wh, export_wh)
    assert [values[f"w_l{phase}"] for phase in (1, 2, 3) if f"w_l{phase}" in values] == phases
