"""Loads that react to the signal, all at once and by turns: how far demand swings from slot to slot."""

import hashlib
import statistics

from bench_month_parts import SLOT_S, SLOTS

from agent.price import RULES
from drivers.curves import Household


def demand(nodes: int, days: int, seed: int) -> tuple[list[list[float]], list[list[float]]]:
    """By slot and household Wh: its load, and what its sun makes."""
    houses = [Household(seed * 10_000 + n, 2000, 5000 if n % 5 in (0, 2) else 0) for n in range(nodes)]
    flows = [[[house.at(slot * SLOT_S + s) for s in (150, 450, 750)] for house in houses] for slot in range(days * SLOTS)]
    load = [[sum(f.load_w for f in three) / 12 for three in row] for row in flows]
    return load, [[sum(f.pv_w for f in three) / 12 for three in row] for row in flows]


def react(load: list[list[float]], sun: list[list[float]], rule: str, turns: int) -> float:
    """Second difference of demand, as a share of its mean, when half of every load waits a slot if that will be cheaper.

    In slot k a node knows the signal of k and k+1, from the slots k-2 and k-1. It decides anew in every turns-th slot; 0: never.
    """
    many, prices, waits, late, totals = len(load[0]), [190_000, 190_000], [False] * len(load[0]), [0.0] * len(load[0]), []
    turn = [int.from_bytes(hashlib.blake2b(b"n%03d" % n).digest()[:4]) for n in range(many)]
    for slot, (wanted, made) in enumerate(zip(load, sun, strict=True)):
        cheaper = prices[-1] < prices[-2]
        taken = []
        for n in range(many):
            if turns and turn[n] % turns == slot % turns:
                waits[n] = cheaper
            part = wanted[n] / 2
            taken.append(part + late[n] + (0.0 if waits[n] else part))
            late[n] = part if waits[n] else 0.0
        totals.append(sum(taken))
        nets = [round(use - sun_wh) for use, sun_wh in zip(taken, made, strict=True)]
        sums = sum(-net for net in nets if net < 0), sum(net for net in nets if net > 0)
        prices.append(RULES[rule](*sums, 300_000, 80_000).buy_u)
    seconds = [abs(a - 2 * b + c) for a, b, c in zip(totals[8:], totals[9:], totals[10:], strict=False)]
    return statistics.fmean(seconds) / statistics.fmean(totals)
