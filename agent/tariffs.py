"""Tariffs: which rates hold in which slot, and how the shared record of them is changed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agent.events import SetTariff
from agent.own import iso
from agent.price import problem
from agent.settlement import KEEP_S
from agent.wire import DAY_S, MAX_PAST, MAX_UNIX_S, Rates, Tariff

LEAD_S, LEAD_SLOTS = 600, 2  # a change lies this far ahead, so that every node hears of it before its first slot begins
CLOCK_S = 1_700_000_000  # a clock from before this program was made has lost its time, and would change slots long settled
NAMES = tuple(name for name in Rates.__struct_fields__ if name != "from_slot")  # of what a change may change


def rates_at(tariff: Tariff | None, unix_s: float) -> Rates | None:
    """The rates that hold at this moment, None before the first of them; the same at every node that holds this record."""
    for rates in timeline(tariff) if tariff is not None else ():
        if unix_s >= begins_s(rates):
            return rates
    return None


def pending(tariff: Tariff, unix_s: float) -> list[Rates]:
    """The rates that are still to come, the next ones first."""
    return [rates for rates in reversed(timeline(tariff)) if begins_s(rates) > unix_s]


def timeline(tariff: Tariff) -> list[Rates]:
    """All rates of the record, newest first."""
    return [tariff.rates, *tariff.past]


def begins_s(rates: Rates) -> int:
    """The moment (unix time) from which they hold."""
    return rates.from_slot * rates.slot_s


def change(tariff: Tariff, wanted: SetTariff, by: str, unix_s: float) -> dict[str, Any]:
    """The keys of the record that follows; ValueError says why there is none, and what to do.

    What begins within LEAD_S is as good as in force; a change further ahead is replaced. Asking for what is in force takes
    such a change back. Slots that have begun keep their rates for as long as they can still be settled.
    """
    if unix_s < CLOCK_S:
        raise ValueError(f"this node's clock says {iso(unix_s)}, so that it cannot tell when a change begins. Set it: timedatectl")
    held = timeline(tariff)
    firm = [rates for rates in held if begins_s(rates) < unix_s + LEAD_S]
    base = firm[0] if firm else held[0]
    asked = {name: value for name in NAMES if (value := getattr(wanted, name)) is not None}
    new = msgspec.structs.replace(base, **asked)
    _check(new)
    if new != base:
        new = msgspec.structs.replace(new, from_slot=_first_s(base, new, wanted.from_s, unix_s) // new.slot_s)
        past = _needed(firm, unix_s)
    elif firm and len(firm) < len(held):
        past = _needed(firm, unix_s)[1:]
    else:
        raise ValueError("that is the tariff already: there is nothing to change")
    if len(past) > MAX_PAST:
        until = iso(begins_s(past[-2]) + KEEP_S + past[-1].slot_s)
        raise ValueError(
            f"{MAX_PAST} earlier tariffs are still to be settled by, the most that the record holds. Wait until {until}"
        )
    told = {"past": msgspec.to_builtins(past)} if past else {}
    return {**msgspec.to_builtins(new), **told, "by": by, "at": iso(unix_s), "version": tariff.version + 1}


def _check(rates: Rates) -> None:
    wrong = problem(rates.rule, rates.import_u, rates.export_u)
    if wrong:
        raise ValueError(wrong)
    if rates.floor_u > rates.cap_u:
        raise ValueError("the floor is above the cap, so that no price lies between them. Lower the floor or raise the cap")
    if not 60 <= rates.slot_s <= 3600 or DAY_S % rates.slot_s:
        raise ValueError(f"a slot cannot be {rates.slot_s} s long. Take 1, 5, 10, 15, 30 or 60 minutes")
    if not re.fullmatch("[A-Z]{3}", rates.currency):
        raise ValueError(f"{rates.currency[:40]!r} is no currency. Write three capital letters as in ISO 4217")


def _first_s(base: Rates, new: Rates, from_s: int | None, unix_s: float) -> int:
    """When new rates begin: with a slot; with a day when days would else have slots of two lengths, or two currencies."""
    whole_day = (base.slot_s, base.currency) != (new.slot_s, new.currency)
    step = DAY_S if whole_day else new.slot_s

    def first(after_s: float) -> int:
        return -int(-after_s // step) * step

    if from_s is None:
        return first(unix_s + max(LEAD_S, LEAD_SLOTS * new.slot_s))
    soonest = first(unix_s + LEAD_S)
    if not 0 <= from_s <= MAX_UNIX_S - DAY_S:
        raise ValueError(f"no calendar has such a time. Take {iso(soonest)} or later")
    if from_s < soonest:
        raise ValueError(f"{iso(from_s)} is too soon: every node has to hear of it before. Take {iso(soonest)} or later")
    if from_s % step:
        why = "another slot length or currency begins with a day (UTC)" if whole_day else "no slot begins there"
        raise ValueError(f"{iso(from_s)}: {why}. Take {iso(from_s // step * step)} or {iso(first(from_s))}")
    return from_s


def _needed(firm: list[Rates], unix_s: float) -> list[Rates]:
    """Those rates, newest first, that a slot which can still be settled may need."""
    needed, end_s = [], float("inf")
    for rates in firm:
        if end_s > unix_s - KEEP_S - rates.slot_s:
            needed.append(rates)
        end_s = min(end_s, begins_s(rates))
    return needed
