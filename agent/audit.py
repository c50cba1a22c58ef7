"""Audit: a ledger's revisions replayed, as the entries of one day, each correction on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise, takewhile
from typing import NamedTuple

import msgspec

from agent.accounts import Settled, account, entries, posted, replay
from agent.own import iso
from agent.settlement import KEEP_S

REACH_S = KEEP_S + 7200  # a correction is booked no later than this after its slot


class Correction(NamedTuple):
    """A revision that came when its slot was final: booked in the slot then open, as the difference to the one before."""

    before: Settled
    after: Settled

    @property
    def entries(self) -> dict[str, int]:
        return posted(self.before, self.after)


class Book(NamedTuple):
    """One slot as it was when it became final (or is now), and what corrected it later, wherever that was booked."""

    settled: Settled
    later: list[Correction]

    @property
    def newest(self) -> Settled:
        return self.later[-1].after if self.later else self.settled


class Audit(NamedTuple):
    """The slots of a span of time, the corrections booked in it, and what does not come out."""

    books: list[Book]
    corrections: list[Correction]
    problems: list[str]


class Line(NamedTuple):
    """What one account got (+) or paid (-) for a slot, nano-currency; Wh are None for the accounts that are no node's."""

    start_s: int
    zone: str
    account: str
    import_wh: int | None
    export_wh: int | None
    nano: int
    currency: str
    corrects_s: int | None
    revision: int
    digest: str


def start_s(settled: Settled) -> int:
    return settled.slot * settled.slot_s


def booked_s(settled: Settled) -> int:
    return settled.booked * settled.slot_s


def audit(rows: Iterable[Settled], from_s: int, to_s: int) -> Audit:
    """Replay what a ledger holds of the slots that begin, and the corrections that are booked, from the one moment to the other.

    A correction needs the revision before it: `rows` should reach back REACH_S. They may be in any order.
    """
    found = Audit([], [], [])
    for (begins_s, zone, _), group in groupby(sorted(rows, key=_order), lambda row: _order(row)[:3]):
        revisions = list(group)
        ours = from_s <= begins_s < to_s
        final = list(takewhile(lambda row: row.booked == row.slot, revisions))
        later = [Correction(*pair) for pair in list(pairwise(revisions))[max(0, len(final) - 1) :]]
        if not ours and not any(from_s <= booked_s(row) < to_s for row in revisions):
            continue
        name = f"{iso(begins_s)} in {zone}"
        for row in revisions:
            if (wrong := replay(row)) != "":
                found.problems.append(f"{name}, revision {row.revision}: {wrong}")
        gaps = sorted(set(range(revisions[-1].revision)) - {row.revision for row in revisions})
        if gaps:
            found.problems.append(f"{name}: revision {', '.join(map(str, gaps))} is not in the ledger")
        if ours and final:
            found.books.append(Book(final[-1], later))
        found.corrections.extend(one for one in later if from_s <= booked_s(one.after) < to_s)
    return found


def _order(row: Settled) -> tuple[int, str, int, int]:
    return start_s(row), row.zone, row.slot_s, row.revision


def lines(found: Audit) -> Iterator[Line]:
    """Every entry of the span by time, slots before the corrections booked in them."""
    made = [line for book in found.books for line in _slot_lines(book.settled)]
    made += [line for correction in found.corrections for line in _correction_lines(correction)]
    yield from sorted(made, key=lambda line: (line.start_s, line.corrects_s is not None))


def _slot_lines(settled: Settled) -> Iterator[Line]:
    uses = {account(node): both for node, both in settled.uses.items()}
    for name, nano in entries(settled).items():
        import_wh, export_wh = uses.get(name, (None, None))
        at_s, revision = start_s(settled), settled.revision
        yield Line(at_s, settled.zone, name, import_wh, export_wh, nano, settled.currency, None, revision, settled.digest)


def _correction_lines(correction: Correction) -> Iterator[Line]:
    before, after = correction
    old, new = ({account(node): both for node, both in one.uses.items()} for one in correction)
    for name, nano in correction.entries.items():
        import_wh = export_wh = None
        if name in old or name in new:
            (import_0, export_0), (import_1, export_1) = old.get(name, (0, 0)), new.get(name, (0, 0))
            import_wh, export_wh = import_1 - import_0, export_1 - export_0
        at_s, of_s, revision = booked_s(after), start_s(before), after.revision
        yield Line(at_s, after.zone, name, import_wh, export_wh, nano, after.currency, of_s, revision, after.digest)


class Total(msgspec.Struct):
    """An account's sum over a span; `nano` with the corrections, of which `corrected` is the part."""

    import_wh: int = 0
    export_wh: int = 0
    nano: int = 0
    corrected: int = 0


def totals(made: Iterable[Line]) -> dict[tuple[str, str], Total]:
    """By account and currency, in the order in which they first come."""
    sums: dict[tuple[str, str], Total] = {}
    for line in made:
        total = sums.setdefault((line.account, line.currency), Total())
        total.import_wh += line.import_wh or 0
        total.export_wh += line.export_wh or 0
        total.nano += line.nano
        total.corrected += line.nano if line.corrects_s is not None else 0
    return sums


def money_text(nano: int, decimals: int = 2) -> str:
    """Nano-currency as the exact decimal, with at least so many decimals: 1250000 -> '0.00125'."""
    whole, part = divmod(abs(nano), 10**9)
    digits = f"{part:09d}"
    return f"{'-' if nano < 0 else ''}{whole}.{digits[:decimals]}{digits[decimals:].rstrip('0')}"


def money_texts(amounts: Iterable[int]) -> list[str]:
    """Amounts one below the other: exact, and with the same number of decimals."""
    amounts = list(amounts)
    most = max((len(money_text(nano).partition(".")[2]) for nano in amounts), default=2)
    return [money_text(nano, most) for nano in amounts]
