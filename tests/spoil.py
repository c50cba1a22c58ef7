"""Wires that spoil telegrams, and the count of what a reader makes of them."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol

from drivers.reading import Reading

Wire = Callable[[bytes, Random, int], bytes]  # a telegram, chance and how many bits to flip: what the reader gets


class Reader(Protocol):
    @property
    def damaged(self) -> int: ...

    def feed(self, data: bytes) -> list[Reading]: ...


def _flips(data: bytes, places: Sequence[int]) -> dict[int, int]:
    """byte: which of its bits are flipped."""
    masks: dict[int, int] = {}
    for place in places:
        masks[place // 8] = masks.get(place // 8, 0) ^ 1 << place % 8
    return masks


def _parity_checked(data: bytes, masks: dict[int, int]) -> bytes:
    """7E1 at a port that puts NUL for a byte of wrong parity; bit 7 is the parity."""
    spoiled = bytearray(data)
    for at, mask in masks.items():
        spoiled[at] = 0 if mask.bit_count() % 2 else data[at] ^ mask & 0x7F
    return bytes(spoiled)


def eight_bits(data: bytes, random: Random, flips: int) -> bytes:
    """8N1: any bits."""
    spoiled = bytearray(data)
    for at, mask in _flips(data, random.sample(range(8 * len(data)), flips)).items():
        spoiled[at] ^= mask
    return bytes(spoiled)


def parity(data: bytes, random: Random, flips: int) -> bytes:
    """7E1 with parity checked: any bits, so that two may meet in one byte and keep its parity."""
    return _parity_checked(data, _flips(data, random.sample(range(8 * len(data)), flips)))


def parity_one_a_byte(data: bytes, random: Random, flips: int) -> bytes:
    """7E1 with parity checked: no two in one byte."""
    places = [8 * at + random.randrange(8) for at in random.sample(range(len(data)), flips)]
    return _parity_checked(data, _flips(data, places))


def unchecked(data: bytes, random: Random, flips: int) -> bytes:
    """7E1 at a port that does not check parity."""
    places = [8 * (place // 7) + place % 7 for place in random.sample(range(7 * len(data)), flips)]
    spoiled = bytearray(data)
    for at, mask in _flips(data, places).items():
        spoiled[at] ^= mask
    return bytes(spoiled)


class Struck(NamedTuple):
    tries: int
    accepted: int  # spoiled telegrams that made a good reading
    wrong: int  # good readings of which any value is not the telegram's
    lost: int  # good telegrams right behind a spoiled one that made no reading


def strike(
    reader: Callable[[], Reader],
    telegrams: Sequence[bytes],
    wire: Wire,
    tries: int,
    seed: str,
    most: int = 8,
    follow: int = 1,
    before: int = 0,
) -> Struck:
    """Feed each telegram spoiled by 1 to `most` flips behind `before` intact ones; after each `follow`th, the same one intact."""
    random = Random(seed)
    told = {telegram: [dict(made.values) for made in reader().feed(telegram + telegram)] for telegram in telegrams}
    accepted = wrong = lost = 0
    for i in range(tries):
        telegram = telegrams[i % len(telegrams)]
        struck = reader()
        struck.feed(telegram * before)
        made = struck.feed(wire(telegram, random, random.randint(1, most)))
        accepted += sum(reading.quality == "good" for reading in made)
        if i % follow == 0:
            after = struck.feed(telegram)
            lost += not after
            made += after
        wrong += sum(reading.quality == "good" and dict(reading.values) not in told[telegram] for reading in made)
    return Struck(tries, accepted, wrong, lost)
