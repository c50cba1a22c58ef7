"""SML: what does not follow the telegrams before it is held back, so that hardly a flip that both CRCs miss becomes a value."""

from functools import reduce
from operator import xor
from random import Random

import pytest
from sml_telegrams import IN, OLD_IN, OUT, POWER, RICH, W, crc, entry, octets, read, seconds, telegram, u, watts, wh

from drivers.sml import Sml


def timed(second: int, tenths_in: int = 1000, tenths_out: int = 500, w: int = 700, **how) -> bytes:
    return telegram(wh(IN, tenths_in), wh(OUT, tenths_out), watts(POWER, w), second=seconds(second), **how)


def heard(*telegrams: bytes, trusting: bool = False) -> tuple[list[int], int]:
    """The watts of the telegrams believed, and how many were not."""
    ear = Sml(trusting)
    return [reading.values["w"] for data in telegrams for reading in ear.feed(data)], ear.damaged


def test_the_first_telegram_waits_for_a_second_and_a_recording_does_not():
    assert heard(timed(1)) == ([], 0)
    assert heard(timed(1, w=1), timed(2, w=2), timed(3, w=3)) == ([2, 3], 0)
    assert heard(timed(1, w=1), trusting=True) == ([1], 0)
    assert heard(timed(1, w=1), telegram(watts(POWER, 2)), timed(3, w=3), trusting=True) == ([1, 2, 3], 0)


OTHERS = {
    "an entry more": telegram(wh(IN, 1000), wh(OUT, 500), watts(POWER, 9), watts("36.7.0", 9), second=seconds(3)),
    "an entry less": telegram(wh(IN, 1000), watts(POWER, 9), second=seconds(3)),
    "another order": telegram(wh(OUT, 500), wh(IN, 1000), watts(POWER, 9), second=seconds(3)),
    "another scaler": telegram(wh(IN, 1000), wh(OUT, 500), watts(POWER, 9, scaler=-1), second=seconds(3)),
    "another unit": telegram(wh(IN, 1000), wh(OUT, 500), watts(POWER, 9), entry("0.0.0", u(1), W), second=seconds(3)),
    "a number without sign": telegram(wh(IN, 1000), wh(OUT, 500), entry(POWER, u(9, 4), W, 0), second=seconds(3)),
    "a status": telegram(wh(IN, 1000, OLD_IN), wh(OUT, 500), watts(POWER, 9), second=seconds(3)),
    "no time": telegram(wh(IN, 1000), wh(OUT, 500), watts(POWER, 9)),
    "another meter": timed(3, server=b"\x0a\1ISK\0\4\x7a\x55\x45"),
    "a counter that fell by 2 kWh": timed(3, tenths_in=0),
    "a counter that rose by 10 kWh": timed(3, tenths_out=100_500),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_does_not_follow_is_held_back_until_another_follows_it(other):
    begun = [timed(1, 50_000, w=1), timed(2, 50_000, w=2)]
    ear = Sml()
    assert len([reading for data in begun for reading in ear.feed(data)]) == 1
    assert (ear.feed(OTHERS[other]), ear.damaged) == ([], 1)
    assert len(ear.feed(timed(4, 50_000))) == 1  # what came before is still known
    assert len(ear.feed(OTHERS[other])) == 1  # and so is the other, which has now come twice
    assert ear.damaged == 1


def test_counters_may_move_as_fast_as_a_connection_can():
    # 1 MW for 14 s (10 s of them for a clock that is none) are 3888.9 Wh, and one step of 1 kWh
    for tenths, count in ((48_888, 2), (48_890, 1)):
        assert len(heard(timed(0, 0), timed(0, 0), timed(4, tenths))[0]) == count
    # a clock that went back tells nothing: 10 s, 2777.8 Wh
    for tenths, count in ((37_777, 2), (37_779, 1)):
        assert len(heard(timed(9, 0), timed(9, 0), timed(4, tenths))[0]) == count
    # a meter that turns backwards is none of ours to judge, but it is read
    assert heard(*(timed(second, 50_000 - 100 * second) for second in range(5)))[1] == 0
    # after a day without a telegram, 24 kWh later
    assert heard(timed(0, 0), timed(0, 0), timed(86_400, 240_000))[1] == 0


def test_four_kinds_of_telegram_are_remembered():
    kinds = [telegram(watts(POWER, n), *[entry(f"96.{i}.0", octets(b"-")) for i in range(n)]) for n in range(5)]
    assert heard(*kinds[:4], *kinds[:4]) == ([0, 1, 2, 3], 3)
    assert heard(*kinds, *kinds)[0] == []


def test_numbers_of_as_many_bytes_as_they_need_are_one_kind():
    assert heard(*(telegram(watts(POWER, 1, size)) for size in (1, 2, 3, 4))) == ([1, 1, 1], 0)


# ---- flips that both CRCs miss


def unseen(data: bytes, flips: int, tries: int, seed: int) -> list[bytes]:
    """Telegrams with so many flips in the list of values that the CRC of its message and that of the telegram stay right."""
    begin, end = data.index(b"\x76\5\x09\x09\x09\2"), data.index(b"\x76\5\x09\x09\x09\3") - 4
    size, random = end - begin, Random(seed)
    zero = int.from_bytes(crc(bytes(size)))
    changes = [int.from_bytes(crc((1 << bit).to_bytes(size))) ^ zero for bit in range(8 * size)]  # of the CRC, by each bit alone
    bits = {change: bit for bit, change in enumerate(changes)}
    made = []
    while len(made) < tries:
        picked = random.sample(range(8 * size), flips - 1)
        last = bits.get(reduce(xor, (changes[bit] for bit in picked)), picked[0])
        if last not in picked:
            mask = reduce(xor, (1 << bit for bit in (*picked, last)))
            made.append(data[:begin] + (int.from_bytes(data[begin:end]) ^ mask).to_bytes(size) + data[end:])
    return made


@pytest.mark.parametrize(("flips", "most", "least"), [(4, 1, 8), (6, 0, 1)])
def test_of_flips_that_both_crcs_miss_next_to_none_makes_a_wrong_value(flips, most, least):
    """1 in 16 of four such flips did before telegrams had to follow one another; what is left is in the last digits of values."""
    right = dict(read(RICH).values)
    wrong = believed = lost = 0
    for data in unseen(RICH, flips, 300, 5):
        ear = Sml()
        ear.feed(RICH * 2)
        wrong += any(reading.quality == "good" and reading.values != right for reading in ear.feed(data))
        lost += len(ear.feed(RICH)) != 1
        believed += any(reading.quality == "good" and reading.values != right for reading in Sml(trusting=True).feed(data))
    assert wrong <= most
    assert believed >= least  # the CRCs and the structure alone
    assert lost <= wrong
