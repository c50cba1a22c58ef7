"""SML on the wire: any pieces, escapes and ends; structures that no meter sends under right CRCs; then random damage."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sml_telegrams import (
    NONE,
    PLAIN,
    POWER,
    RICH,
    SERVER,
    W,
    body,
    closed,
    crc,
    entry,
    framed,
    many,
    message,
    number,
    octets,
    opened,
    read,
    telegram,
    u,
    watts,
)

from drivers.reading import MeterError
from drivers.sml import Sml
from drivers.sml_wire import ESCAPE, MOST_BYTES, START, Telegrams, messages


def test_any_pieces_give_the_same():
    stream = b"\x1b\x1b" + PLAIN[30:] + PLAIN + b"\xff\0" + telegram(watts(POWER, 7)) + PLAIN[:50] + PLAIN
    whole = Sml(trusting=True)
    expected = whole.feed(stream)
    assert [reading.values["w"] for reading in expected] == [-1234, 7, -1234]
    assert whole.damaged == 1
    for size in range(1, 40):
        ear = Sml(trusting=True)
        got = [reading for start in range(0, len(stream), size) for reading in ear.feed(stream[start : start + size])]
        assert (got, ear.damaged) == (expected, 1)


def test_a_reading_comes_with_its_last_byte():
    ear = Sml(trusting=True)
    assert ear.feed(PLAIN[:-1]) == []
    assert len(ear.feed(PLAIN[-1:])) == 1
    assert ear.feed(b"") == []


@pytest.mark.parametrize(
    "payload", [ESCAPE, ESCAPE * 2, b"\x1b" * 5, START, b"\x1b" * 7, b"\0" + ESCAPE + b"\x1a\0ab", b"\x1b" * 12]
)
@pytest.mark.parametrize("shift", range(4))
def test_escapes_within_a_telegram(payload, shift):
    data = telegram(entry("96.1.0", octets(b"-" * shift + payload + b"-")), watts(POWER, 42))
    ear = Sml(trusting=True)
    assert [reading.values["w"] for byte in data + data for reading in ear.feed(bytes([byte]))] == [42, 42]
    assert ear.damaged == 0


def test_every_padding_occurs_and_is_checked():
    seen = set()
    for length in range(4):
        data = telegram(entry("96.1.0", octets(b"-" * length + b"--")), watts(POWER, 1))
        assert read(data).values["w"] == 1
        seen.add(data[-3])
    assert seen == {0, 1, 2, 3}


def ended(inside: bytes, padding: int) -> bytes:
    whole = START + inside + ESCAPE + bytes([0x1A, padding])
    return whole + crc(whole)


INSIDE = PLAIN[8 : -8 - PLAIN[-3]]


@pytest.mark.parametrize(
    "data",
    [
        ended(INSIDE + b"\0" * (-len(INSIDE) % 4), 4),
        ended(INSIDE + b"\0" * (-len(INSIDE) % 4) + b"\0", -len(INSIDE) % 4 + 1),  # not a multiple of four
        ended(INSIDE + b"\0\0\0\0"[: -len(INSIDE) % 4 + 4], 0),
        ended(INSIDE + b"\1" * (-len(INSIDE) % 4 + 4), -len(INSIDE) % 4),
        ended(b"", 0),
        ended(b"", 3),
        ended(b"\0" * 4, 0),
        PLAIN[:-1] + bytes([PLAIN[-1] ^ 1]),
    ],
)
def test_a_wrong_end_is_damage(data):
    ear = Sml(trusting=True)
    assert (ear.feed(data), ear.damaged) == ([], 1)
    assert len(ear.feed(PLAIN)) == 1


def test_a_start_without_an_end_does_not_grow_for_ever():
    ear = Sml(trusting=True)
    for _ in range(3):
        assert ear.feed(START + b"-" * 5000) == []
    assert ear.damaged == 3
    assert len(ear.feed(PLAIN)) == 1
    late = START + b"-" * (MOST_BYTES - 7) + PLAIN  # an escape, one byte too late, hands over to the next telegram
    for pieces in ([late], [late[i : i + 1] for i in range(len(late))]):
        ear = Sml(trusting=True)
        assert sum(len(ear.feed(piece)) for piece in pieces) == 1
        assert ear.damaged == 1
    quiet = Telegrams()
    quiet.add(b"-" * 100_000)
    assert quiet.next() is None
    assert (len(quiet._data), quiet.dropped) == (7, 0)


def test_an_unknown_escape_ends_the_telegram_and_a_start_just_behind_it_is_found():
    ear = Sml(trusting=True)
    assert len(ear.feed(START + b"--\x1b" + PLAIN)) == 1  # five 1b in a row, and the start is in the last four
    assert ear.damaged == 1
    assert ear.feed(START + b"--" + ESCAPE + b"\x02\0\0\0") == []
    assert ear.damaged == 2


def test_the_other_crc_of_some_holley_meters():
    assert read(telegram(watts(POWER, 376), kermit=True)).values["w"] == 376
    inner = message(0x701, body(watts(POWER, 3)), 2, kermit=True)
    assert read(framed(opened(kermit=True), inner, closed(kermit=True))).values["w"] == 3  # another kind around the messages
    ear = Sml(trusting=True)
    assert ear.feed(framed(opened(), inner, closed())) == []  # not two kinds among them
    assert ear.damaged == 1


# ---- the structure: right CRCs around what no meter sends

LIST = message(0x701, body(watts(POWER, 1)), 2)


def raw_message(inside: bytes, end: bytes = b"\0", tail: bytes | None = None) -> bytes:
    return inside + (b"\x63" + crc(inside) if tail is None else tail) + end


def listed(content: bytes) -> bytes:
    return message(0x701, content, 2)


HEAD = b"\x76" + octets(b"abc") + u(0) + u(0)
GOOD = watts(POWER, 1)
DEEP = b"\x71" * 20 + b"\x01"


@pytest.mark.parametrize(
    "middle",
    [
        b"",
        LIST + LIST,
        closed(),
        b"\x75" + LIST[1:],
        raw_message(HEAD + many(u(0x701, 2), body(GOOD)), end=b"\1"),
        raw_message(HEAD + many(u(0x701, 2), body(GOOD)), tail=b"\x01"),
        raw_message(HEAD + many(u(0x701, 2), body(GOOD)), tail=b"\x63\x12\x34"),
        raw_message(HEAD + many(u(0x701, 2), body(GOOD)), tail=b"\x65\x00\x01\x12\x34"),
        raw_message(HEAD + many(u(0x701, 2), body(GOOD)), tail=b"\x52\xff"),
        raw_message(HEAD + many(u(0x701, 2))),
        raw_message(HEAD + many(octets(b"\7\1"), body(GOOD))),
        raw_message(HEAD + u(0)),
        listed(NONE),
        listed(many(NONE)),
        listed(many(NONE, NONE, NONE, NONE, many(GOOD), NONE, NONE)),  # no server id
        listed(many(NONE, octets(SERVER), NONE, NONE, NONE, NONE, NONE)),
        listed(body(GOOD, GOOD)),
        listed(body(u(1))),
        listed(body(many(NONE))),
        listed(body(many(u(1), NONE, NONE, NONE, NONE, NONE, NONE))),
        listed(body(many(octets(b"\1\0\x10\7\xff"), NONE, NONE, u(W), number(0, 1), number(1), NONE))),
        listed(body(many(octets(b"\1\0\x10\7\0\xff"), NONE, NONE, u(W), number(0, 1), number(1), u(1)))),
        listed(body(entry(POWER, number(1), W, 10))),
        listed(body(many(octets(b"\1\0\x10\7\0\xff"), NONE, NONE, u(W), u(0), number(1), NONE))),
        listed(body(many(octets(b"\1\0\x10\7\0\xff"), NONE, NONE, u(W, 2), number(0, 1), number(1), NONE))),
        listed(body(many(octets(b"\1\0\x10\7\0\xff"), NONE, NONE, octets(b"W"), number(0, 1), number(1), NONE))),
        listed(body(entry(POWER, b"\x51", W, 0))),  # a number of no bytes
        listed(body(entry(POWER, b"\x5a" + bytes(9), W, 0))),  # of nine
        listed(body(entry(POWER, b"\x43\0\0", W, 0))),  # a truth value of two
        listed(body(entry(POWER, b"\x22\0", W, 0))),  # an unknown type
        listed(body(entry(POWER, b"\0", W, 0))),  # an end inside
        listed(body(entry("96.1.0", DEEP), GOOD)),
        listed(body(entry("96.1.0", b"\x83\x92-"), GOOD)),  # a length whose second byte is no length
        listed(body(entry("96.1.0", b"\x8f\x8f\x8f\x8f\x0f"), GOOD)),
        listed(body(entry("96.1.0", b"\x8f\x0f---"), GOOD)),  # longer than the telegram
        HEAD + b"\x83",  # ends in a length
        HEAD,
        LIST[:-1],
    ],
)
def test_a_wrong_structure_is_damage_even_under_right_crcs(middle):
    for around in ((opened(), closed()), (opened(), b"")):
        ear = Sml(trusting=True)
        assert (ear.feed(framed(around[0], middle, around[1])), ear.damaged) == ([], 1)


def test_what_need_not_be_there():
    texts = entry("96.50.1", octets(b"ISK"), f=1), entry("96.5.0", b"\x42\x01"), entry("97.97.0", b"\x42\0")
    assert read(framed(opened(), listed(body(*texts, GOOD, second=u(5, 4))), closed())).values == {"w": 1}  # Holley: seconds alone
    many_entries = [entry(f"96.{i}.0", NONE) for i in range(40)]
    assert read(framed(opened(), listed(body(*many_entries, GOOD)), closed())).values == {"w": 1}
    # a CRC below 256 may travel in one byte
    for n in range(3000):
        inside = b"\x76" + octets(n.to_bytes(4, "big")) + u(0) + u(0) + many(u(0x201, 2), many(NONE))
        if crc(inside)[0] == 0:
            assert read(framed(opened(), LIST, inside + b"\x62" + crc(inside)[1:] + b"\0")).values == {"w": 1}
            return
    pytest.fail("no transaction id gave such a CRC")


def test_messages_raise_only_meter_errors_and_give_what_was_sent():
    assert [tag for tag, _ in messages(PLAIN)] == [0x101, 0x701, 0x201]
    with pytest.raises(MeterError, match="wrong CRC"):
        messages(PLAIN[:-1] + b"\0")


# ---- any stream, any damage

PIECES = st.one_of(st.binary(max_size=60), st.sampled_from([PLAIN, START, ESCAPE, PLAIN[:70], PLAIN[70:], ESCAPE + b"\x1a\0\0\0"]))


@given(st.lists(PIECES, max_size=12), st.integers(1, 50))
def test_no_stream_raises_and_no_way_of_cutting_it_matters(pieces, size):
    stream = b"".join(pieces)
    whole, cut = Sml(trusting=True), Sml(trusting=True)
    expected = whole.feed(stream)
    assert [reading for i in range(0, len(stream), size) for reading in cut.feed(stream[i : i + size])] == expected
    assert cut.damaged == whole.damaged
    assert all(reading.values["w"] == -1234 for reading in expected)


def damaged(random: Random, data: bytes) -> bytes:
    """1 to 8 flipped bits, a cut, lost bytes, doubled bytes, or a pair of these."""
    wrong = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2))):
        place, length = random.randrange(len(wrong)), random.randint(1, 8)
        match random.randrange(8):
            case 0:
                del wrong[place:]
            case 1:
                del wrong[:place]
            case 2:
                del wrong[place : place + length]
            case 3:
                wrong[place:place] = wrong[place : place + length]
            case _:
                for bit in random.sample(range(8 * len(wrong)), min(length, 8 * len(wrong))):
                    wrong[bit // 8] ^= 1 << bit % 8
        if not wrong:
            break
    return bytes(wrong)


def wrong_values(tries: int, seed: int, streams: list[bytes]) -> tuple[int, int, int]:
    """(good readings, good readings with a value that was never sent, readings lost) over damaged telegrams amid intact ones."""
    random = Random(seed)
    good = wrong = lost = 0
    sent = [{tuple(reading.values.items()) for reading in Sml(trusting=True).feed(data)} for data in streams]
    for _ in range(tries):
        i = random.randrange(len(streams))
        ear = Sml()
        readings = ear.feed(streams[i] * 2 + damaged(random, streams[i]) + streams[i])[1:]
        lost += not readings or readings[-1].quality != "good"
        for reading in readings:
            good += reading.quality == "good"
            wrong += reading.quality == "good" and tuple(reading.values.items()) not in sent[i]
    return good, wrong, lost


def test_no_damage_makes_a_wrong_value_and_the_next_telegram_is_read():
    good, wrong, lost = wrong_values(2000, 7, [PLAIN, RICH])
    assert (wrong, lost) == (0, 0)
    assert 2000 <= good < 2000 * 1.4  # the damaged ones that are read lost only bytes before or after the telegram
