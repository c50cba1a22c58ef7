"""TIC frames: published groups, values by hand, what is refused and why, any chunking, flips, holes and noise."""

from copy import copy
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoil import Wire, parity, strike, unchecked
from telegrams import HISTORIC, HISTORIC_3, PRODUCER, STANDARD, THREE, group, historic, standard

from drivers.reading import QUANTITIES, Reading
from drivers.tic import MOST_FRAME, VA_FOR_W, Tic


def one(data: bytes) -> Reading:
    reader = Tic()
    made = reader.feed(data)
    assert (len(made), reader.damaged) == (1, 0)
    return made[0]


def refused(data: bytes) -> bool:
    reader = Tic()
    return (reader.feed(data), reader.damaged) == ([], 1)


@pytest.mark.parametrize(
    ("label", "value", "tab", "sum_"),
    [  # groups as real meters send them
        ("IINST", "002", False, "Y"),
        ("MOTDETAT", "000000", False, "B"),
        ("PTEC", "HP..", False, " "),  # the sum may be a space
        ("EAST", "023591827", True, "4"),
        ("SINSTS", "00279", True, "X"),
        ("LTARF", "      BASE      ", True, "F"),
        ("SMAXSN", "H190323120831\t01748", True, "B"),
        ("CCASN-1", "H190323153000\t00084", True, " "),
    ],
)
def test_the_checksum_of_the_examples_is_that_of_real_meters(label, value, tab, sum_):
    assert group(label, value, tab=tab).decode()[-2] == sum_


# (frame, all its values)
BY_HAND = [
    (HISTORIC, {"w": 740, "va": 740, "a_l1": 3.0, "import_wh": 2815342}),
    # 1065963 + 1521211 Wh
    (HISTORIC_3, {"w": 2250, "va": 2250, "a_l1": 1.0, "a_l2": 7.0, "a_l3": 2.0, "import_wh": 2587174}),
    (STANDARD, {"w": 948, "va": 948, "v_l1": 229.0, "a_l1": 4.0, "import_wh": 6367621}),
    # 0 - 2806 VA
    (PRODUCER, {"w": -2806, "va": 2806, "v_l1": 238.0, "a_l1": 12.0, "import_wh": 412990, "export_wh": 3198805}),
    (
        THREE,
        {"w": 3207, "va": 3207, "w_l1": 899, "w_l2": 41, "w_l3": 2267, "v_l1": 229.0, "v_l2": 233.0, "v_l3": 231.0}
        | {"a_l1": 4.0, "a_l2": 0.0, "a_l3": 10.0, "import_wh": 18005120},
    ),
    # tempo: 1 + 20 + 300 + 4000 + 50000 + 600000 Wh
    (
        historic(
            "ADCO 021728123456\nBBRHCJB 000000001\nBBRHPJB 000000020\nBBRHCJW 000000300\nBBRHPJW 000004000\n"
            "BBRHCJR 000050000\nBBRHPJR 000600000\nPAPP 00000"
        ),
        {"w": 0, "va": 0, "import_wh": 654321},
    ),
    (historic("ADCO 021728123456\nEJPHN 000000001\nEJPHPM 000000020\nPAPP 99999"), {"w": 99999, "va": 99999, "import_wh": 21}),
    (historic("ADCO 021728123456\nPAPP 00010"), {"w": 10, "va": 10}),
    # three phases that feed in: which of them does is not told
    (
        standard("ADSC|021975123456\nEAST|000000001\nEAIT|000000002\nSINSTS|00300\nSINSTS1|00200\nSINSTI|00301"),
        {"w": -1, "va": 1, "import_wh": 1, "export_wh": 2},
    ),
]


@pytest.mark.parametrize(("frame", "values"), BY_HAND)
def test_the_values_by_hand(frame, values):
    reading = one(frame)
    assert reading == Reading("good", "", values)
    assert all(isinstance(reading.values[name], int) for name in values if name.startswith(("w", "va", "im", "ex")))
    assert values.keys() <= set(QUANTITIES)


def test_that_there_are_no_watts_is_told():
    assert "no watts" in VA_FOR_W
    assert "counters" in VA_FOR_W


@pytest.mark.parametrize(
    ("frame", "why", "values"),
    [
        (
            historic("ADIR1 020\nADIR2 070\nADIR3 010\nADCO 021728123456\nIINST1 020\nIINST2 070\nIINST3 010"),
            "overload",
            {"a_l1": 20.0, "a_l2": 70.0, "a_l3": 10.0},
        ),
        (historic("ADCO 021728123456\nBASE 000000007\nIINST 003"), "no apparent power (PAPP)", {"a_l1": 3.0, "import_wh": 7}),
        (standard("ADSC|021961123456\nEAST|000000007"), "no apparent power (SINSTS)", {"import_wh": 7}),
    ],
)
def test_an_intact_frame_without_power_says_why(frame, why, values):
    reading = one(frame)
    assert (reading.quality, reading.values) == ("absent", values)
    assert why in reading.why


@pytest.mark.parametrize(
    "frame",
    [
        b"\x02\x03",
        b"\x02\n\r\x03",
        b"\x02\n \r\x03",
        HISTORIC.replace(b"\nPAPP", b"PAPP"),
        HISTORIC.replace(b"\n", b"\n\n", 1),
        HISTORIC[:-2] + b"\x03",
        HISTORIC.replace(b"PAPP 00740", b"PAPP 00741"),
        HISTORIC.replace(b"PAPP 00740 ", b"PAPP 00740\t"),
        HISTORIC.replace(group("ADCO", "021728123456"), b""),
        HISTORIC.replace(group("ADCO", "021728123456"), group("ADCO", "02172812345")),
        HISTORIC.replace(group("PAPP", "00740"), group("PAPP", "0740")),
        HISTORIC.replace(group("PAPP", "00740"), group("PAPP", "0074p")),
        HISTORIC.replace(group("PAPP", "00740"), group("PAPP", "00740") * 2),
        HISTORIC.replace(group("PAPP", "00740"), group("PAPP", "00740", tab=True)),
        HISTORIC.replace(group("PAPP", "00740"), group("papp", "00740")),
        HISTORIC.replace(group("PAPP", "00740"), group("PUPP", "00740")),  # unknown, and not seen before
        HISTORIC.replace(group("PAPP", "00740"), group("HCHC", "000000740")),  # of two tariff systems
        HISTORIC_3.replace(group("HCHP", "001521211"), b""),
        PRODUCER.replace(group("SINSTI", "02806", tab=True), b""),
        PRODUCER.replace(group("EAIT", "003198805", tab=True), b""),
        STANDARD.replace(group("SINSTS", "00948", tab=True), group("SINSTS", "H260111130507", "00948", tab=True)),
        STANDARD.replace(group("ADSC", "021961123456", tab=True), b""),
        STANDARD.replace(b"PAS DE", b"PAS \x00E"),
    ],
)
def test_whatever_looks_odd_is_thrown_away(frame):
    assert refused(frame)


def test_other_labels_than_before_are_believed_when_they_come_again():
    strange, other = (HISTORIC.replace(group("HHPHC", "A"), group(label, "000012")) for label in ("GAZ", "EAU"))
    reader = Tic()
    made = [len(reader.feed(frame)) for frame in (HISTORIC, strange, strange, other, other, HISTORIC, other)]
    assert made == [1, 0, 1, 0, 1, 1, 1]
    assert reader.damaged == 2


def test_a_frame_cut_off_or_broken_off_counts_as_damaged_and_noise_does_not():
    reader = Tic()
    assert len(reader.feed(b"\x03\x04\nPAPP 00740\r" + HISTORIC[:90] + HISTORIC + HISTORIC[:60] + b"\x04" + HISTORIC)) == 2
    assert reader.damaged == 2


def test_what_is_held_is_bounded():
    reader = Tic()
    reader.feed(b"\x02")
    for _ in range(100):
        assert reader.feed(b"x" * 1000) == []
        assert len(reader._frame or b"") <= MOST_FRAME
    assert len(reader.feed(b"\x03" + STANDARD)) == 1
    assert reader.damaged == 1


STREAM = b"".join(
    (STANDARD[300:], STANDARD, b"\x00", STANDARD[:100], STANDARD.replace(b"00948", b"00949"), b"\x04", STANDARD, PRODUCER * 2)
)


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_chunking_gives_the_same(cuts):
    whole, cut = Tic(), Tic()
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(places)]
    assert [reading for piece in pieces for reading in cut.feed(piece)] == whole.feed(STREAM)
    assert (cut.damaged, whole.damaged) == (3, 3)  # cut off, wrong sum, the first of other labels


@pytest.mark.parametrize("frame", [HISTORIC_3, PRODUCER])
def test_byte_by_byte_the_reading_comes_with_the_last(frame):
    reader = Tic()
    made = [len(reader.feed(bytes([byte]))) for byte in frame]
    assert made == [0] * (len(frame) - 1) + [1]


@given(st.lists(st.one_of(st.binary(), st.sampled_from([b"\x02", b"\x03", b"\x02\n", b"\r\n", b"\r\x03", group("PAPP", "00001")]))))
def test_no_bytes_raise(pieces):
    reader = Tic()
    assert [reading for piece in pieces for reading in reader.feed(piece) if reading.quality == "good"] == []  # never an ADCO
    assert len(reader.feed(THREE)) == 1


def test_two_frames_with_a_hole_between_them_give_each_value_from_one_of_them():
    after = PRODUCER.replace(group("SINSTI", "02806", tab=True), group("SINSTI", "02790", tab=True))
    after = after.replace(group("EAIT", "003198805", tab=True), group("EAIT", "003198806", tab=True))
    told = [one(PRODUCER).values, one(after).values]
    assert (told[1]["w"], told[1]["export_wh"]) == (-2790, 3198806)
    warm = Tic()
    warm.feed(PRODUCER)
    for begin in range(0, len(PRODUCER), 5):
        for end in range(0, len(after), 3):
            for reading in copy(warm).feed(PRODUCER[:begin] + after[end:]):
                assert all(value in (told[0][name], told[1][name]) for name, value in reading.values.items()), (begin, end)


@pytest.mark.parametrize("frame", [HISTORIC, PRODUCER])
def test_no_single_flipped_bit_gives_a_wrong_value_even_where_the_port_checks_no_parity(frame):
    told = one(frame).values
    for at in range(len(frame)):
        for byte in (0, *(frame[at] ^ 1 << bit for bit in range(8))):
            made = Tic().feed(frame[:at] + bytes([byte]) + frame[at + 1 :])
            assert all(reading.values == told for reading in made), (at, byte)


@pytest.mark.parametrize("frames", [(HISTORIC, HISTORIC_3), (STANDARD, PRODUCER, THREE)])
@pytest.mark.parametrize(("wire", "most"), [(parity, 8), (unchecked, 1)])
def test_flipped_bits_give_no_wrong_value_and_do_not_cost_the_next_frame(frames, wire: Wire, most):
    struck = strike(Tic, frames, wire, 1000, "test", most)
    assert (struck.wrong, struck.lost) == (0, 0)
