"""Throws mutants at whatever reads outside data: only the one declared kind of exception may come out, soon and small."""

import resource
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from mutate import Mutation, mutant

One = Callable[[bytes, Random], object]


class Target(NamedTuple):
    """`one` takes one input. It may raise `allowed` and nothing else. `share`: how many of a thousand inputs are its own."""

    name: str
    share: int
    one: One
    seeds: Sequence[bytes]
    mutations: Sequence[Mutation]
    allowed: tuple[type[Exception], ...] = ()


class Found(NamedTuple):
    """An input that did what none may: number, why, the bytes."""

    number: int
    why: str
    data: bytes


class Struck(NamedTuple):
    """What became of so many inputs. `refused` with the allowed exception; the worst by CPU time, and the growth of the peak."""

    inputs: int
    refused: int
    seconds: float
    worst_ms: float
    worst_mb: float
    worst: bytes
    found: Sequence[Found]


def strike(target: Target, inputs: int, seed: str, most_ms: float = 1e9, most_mb: float = 1e9) -> Struck:
    """Throw so many inputs at it. A number and the seed make the same input again; where the target keeps state, not its state."""
    refused, found, worst, worst_ms, worst_mb = 0, [], b"", 0.0, 0.0
    began_s, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(inputs):
        dice = Random(f"{seed} {target.name} {number}")
        data = mutant(target.seeds, dice, target.mutations)
        at_s = time.thread_time()
        try:
            target.one(data, dice)
        except target.allowed:
            refused += 1
        except Exception as error:  # noqa: BLE001  # any other is what is looked for
            found.append(Found(number, f"{type(error).__name__}: {error}"[:300], data))
        spent_ms = 1000 * (time.thread_time() - at_s)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown_mb, peak = (now - peak) / 1024, now
        worst_mb = max(worst_mb, grown_mb)
        if spent_ms > worst_ms:
            worst_ms, worst = spent_ms, data
        if spent_ms > most_ms or grown_mb > most_mb:
            found.append(Found(number, f"{spent_ms:.0f} ms, {grown_mb:.1f} MB", data))
    return Struck(inputs, refused, time.monotonic() - began_s, worst_ms, worst_mb, worst, found)
