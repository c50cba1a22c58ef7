"""Bytes that nobody meant to send: valid ones with flipped bits, splices, holes, huge numbers, deep nests, by a seeded die."""

import json
import re
from collections.abc import Callable, Sequence
from random import Random

MOST = 20_000  # bytes of one input: a little more than the longest record
NUMBER = re.compile(rb"-?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
TEXT = re.compile(rb'"[^"\\\n]*"')
POWERS = (7, 8, 15, 16, 31, 32, 53, 63, 64)
NUMBERS = (
    *(b"%d" % (sign * (2**power + more)) for power in POWERS for more in (-1, 0, 1) for sign in (1, -1)),
    *(b"0 -0 1 -1 00 01 +1 1. .5 0.5 1e3 1E400 -1e400 1e-400 1_000 0x10 0b1 0o7 NaN nan inf -inf Infinity 1e 1,5 --1".split()),
    *(b"true false null None 1979-05-27 1979-05-27T07:32:00Z 07:32:00 9999999999999999 10000000000000000000000".split()),
    b"9" * 400,
    b"1" + b"0" * 5000,
    b"0." + b"3" * 3000,
)
STRINGS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\\u0000",
    b"\\",
    b'"',
    b"'",
    b"\n",
    b"\r\n",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x92\xa1",
    b"../../etc/passwd",
    b"$(reboot)",
    b"%s%n",
    b"#",
    b"+",
    b"network",
    b"agent",
    b"a" * 32,
    b"a" * 33,
    b"A",
    b"-",
    b"x" * 9000,
)
NESTS = ((b"[", b"]"), (b'{"a":', b"}"), (b"[[", b"]]"), (b"{a=", b"}"), (b"[1,", b"]"), (b"\x71", b""), (b"(", b")"))

Mutation = Callable[[bytes, Random], bytes]


def _cut(data: bytes, dice: Random) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + int(dice.expovariate(0.1)))


def flip(data: bytes, dice: Random) -> bytes:
    new = bytearray(data)
    for _ in range(min(len(data), dice.choice((1, 1, 2, 8)))):
        new[dice.randrange(len(new))] ^= 1 << dice.randrange(8)
    return bytes(new)


def put(data: bytes, dice: Random) -> bytes:
    start, end = _cut(data, dice)
    return data[:start] + dice.choice((bytes([dice.randrange(256)]), dice.choice(STRINGS), dice.choice(NUMBERS))) + data[end:]


def hole(data: bytes, dice: Random) -> bytes:
    start, end = _cut(data, dice)
    return data[:start] + data[end:]


def truncate(data: bytes, dice: Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    return data[:start] if dice.random() < 0.8 else data[start:]


def repeat(data: bytes, dice: Random) -> bytes:
    start, end = _cut(data, dice)
    times = dice.choice((2, 2, 3, 20, 1000))
    return data[:start] + data[start:end] * times + data[end:]


def number(data: bytes, dice: Random) -> bytes:
    return _one_of(NUMBER, data, dice, dice.choice(NUMBERS))


def text(data: bytes, dice: Random) -> bytes:
    return _one_of(TEXT, data, dice, b'"' + dice.choice(STRINGS) + b'"')


def nest(data: bytes, dice: Random) -> bytes:
    left, right = dice.choice(NESTS)
    depth = dice.choice((2, 20, 300, 2000, 9000))
    start = dice.randrange(len(data) + 1)
    return data[:start] + left * depth + (right * depth if dice.random() < 0.7 else b"") + data[start:]


def _one_of(form: re.Pattern[bytes], data: bytes, dice: Random, new: bytes) -> bytes:
    found = list(form.finditer(data))
    if not found:
        return put(data, dice)
    one = dice.choice(found)
    return data[: one.start()] + new + data[one.end() :]


def lines(data: bytes, dice: Random) -> bytes:
    """One line goes, comes twice, or stands elsewhere."""
    rows = data.split(b"\n")
    row = rows.pop(dice.randrange(len(rows)))
    for _ in range(dice.choice((0, 1, 1, 2))):
        rows.insert(dice.randrange(len(rows) + 1), row)
    return b"\n".join(rows)


def keys(data: bytes, dice: Random) -> bytes:
    """One value of a JSON object, however deep, goes or becomes another one."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return number(data, dice)
    at = whole
    while isinstance(at, dict | list) and at:
        key = dice.choice(list(at)) if isinstance(at, dict) else dice.randrange(len(at))
        if not isinstance(at[key], dict | list) or dice.random() < 0.3:
            what = dice.random()
            if what < 0.15:
                del at[key]
            elif what < 0.3 and isinstance(at, dict):
                at[dice.choice(("", "é", "a" * 64, "version", "0", "-1", "95", "100000000000000000000"))] = at.pop(key)
            else:
                at[key] = dice.choice(VALUES)
            break
        at = at[key]
    return json.dumps(whole, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")


VALUES = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e300, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30, 10**9, 10**9 + 1),
    *("", "\0", "\ud800", "a", "A", "network", "x" * 5000, "[::1]:1883", "0001-01-01", "0001-01-01T00:00:00+23:59", "9999-12-31"),
    *([], {}, [None], [1, "a"], {"a": 1}, {"a": 2**53}, [[]] * 50, {str(n): n for n in range(300)}, ["a"] * 3000),
)


def mutant(seeds: Sequence[bytes], dice: Random, mutations: Sequence[Mutation]) -> bytes:
    """A seed, mutated once to a few times; now and then the head of one and the tail of another."""
    data = dice.choice(seeds)
    if dice.random() < 0.1:
        other = dice.choice(seeds)
        data = data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 6))):
        data = dice.choice(mutations)(data, dice)[:MOST]
    return data


ANY: Sequence[Mutation] = (flip, put, hole, truncate, repeat, number, nest)
TEXTS: Sequence[Mutation] = (*ANY, text, lines, number, text)
JSON: Sequence[Mutation] = (*ANY, text, keys, keys, keys, keys)
