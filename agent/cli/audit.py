"""grid audit: what this node's ledger says of a day, replayed, for people, bookkeepers and for comparing two nodes."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from agent import audit as core
from agent import ledger
from agent.accounts import Settled, account, entries
from agent.audit import Audit, Book, Correction, Line, booked_s, lines, money_text, money_texts, start_s, totals
from agent.cli.compare import Differs, compared, day_number
from agent.cli.main import config_option, json_option
from agent.cli.table import Column, bold, show
from agent.cli.words import PROBLEM, fail, load, say, say_json
from agent.config import Config
from agent.isle import Island, Want
from agent.own import iso
from agent.wire import DAY_S, price_text

SLOTS = (
    Column("slot"),
    Column("zone", 5),
    Column("rev", 2, number=True),
    Column("digest", 3),
    Column("buy", number=True),
    Column("sell", number=True),
    Column("nodes"),
    Column("sum", number=True),
    Column("flags", 4),
    Column("missing", 6),
)
OF_NODE = (
    Column("slot"),
    Column("zone", 5),
    Column("rev", 2, number=True),
    Column("digest", 3),
    Column("buy", 1, number=True),
    Column("sell", 1, number=True),
    Column("import Wh", number=True),
    Column("export Wh", number=True),
    Column("amount", number=True),
    Column("flag", 4),
)
CORRECTIONS = (
    Column("booked", 1),
    Column("of slot"),
    Column("zone", 5),
    Column("rev", 2, number=True),
    Column("digest", 3),
    Column("account"),
    Column("amount", number=True),
)
TOTALS = (
    Column("account"),
    Column("import Wh", 1, number=True),
    Column("export Wh", 1, number=True),
    Column("amount", number=True),
    Column("", 0),
    Column("of it corrections", 2, number=True),
)
DIFFERS = (Column("slot"), Column("zone", 2), Column("what"), Column("here"), Column("there"))
CSV = ("slot_start", "zone", "node", "import_wh", "export_wh", "amount", "currency", "correction_of", "revision", "digest")


def rows_of(config: Config, from_s: int, to_s: int) -> tuple[list[Settled], str]:
    """All that the ledger holds of the slots, and the corrections booked, between two moments, with what they correct."""
    path = ledger.Ledger(config.state.dir).path
    if not os.path.exists(path):
        return [], f"there is no ledger, or this user may not see it: {path}. The agent makes it with the first slot it settles"
    rows, trouble = ledger.read(config.state.dir, from_s, to_s)
    earliest_s = min(map(start_s, rows), default=from_s)
    return (rows, trouble) if earliest_s >= from_s else ledger.read(config.state.dir, earliest_s, to_s)


def _day(_: click.Context, __: click.Parameter, value: str) -> date:
    today = datetime.fromtimestamp(time.time(), UTC).date()
    if value in ("today", "yesterday"):
        return date.fromordinal(today.toordinal() - (value == "yesterday"))
    try:
        day = date.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no day. Write one as {today}, or today, or yesterday (UTC)") from error
    if day < date(1970, 1, 1):
        raise click.BadParameter("slots are counted from 1970 on")
    return day


@click.command()
@config_option
@click.option("--day", default="today", callback=_day, help="YYYY-MM-DD (UTC), today (the default) or yesterday.")
@click.option("--node", help="Only this node's entries; also grid (the outside grid) and pool (what rounding left).")
@click.option("--csv", "as_csv", is_flag=True, help="One row for each slot and account, for a bookkeeper.")
@click.option("--compare", type=click.Path(path_type=Path), metavar="FILE", help="Another node's 'grid audit --json' of this day.")
@json_option
def audit(path: Path | None, day: date, node: str | None, as_csv: bool, compare: Path | None, as_json: bool) -> None:
    """Reckon a day's settlement again from this node's ledger; the agent need not run.

    Exit code 1: something does not come out, the ledger is damaged, or two nodes' stores differ.
    """
    if as_csv and (as_json or compare is not None):
        raise click.UsageError("--csv goes neither with --json nor with --compare. Take one of them")
    config = load(path)
    from_s = day_number(day) * DAY_S
    rows, trouble = rows_of(config, from_s, from_s + DAY_S)
    if trouble and not rows:
        fail(trouble)
    found = core.audit(rows, from_s, from_s + DAY_S)
    wrong = [*([trouble] if trouble else []), *found.problems]
    if compare is not None:
        differ = compared(found, compare, day)
        _show_differing(differ, config.node.id, str(day), len(found.books), as_json)
    else:
        differ = []
        name = _account(found, node, day) if node is not None else None
        if as_json:
            say_json(_as_json(found, config.node.id, day, name))
        elif as_csv:
            say(_as_csv(lines(found), name))
        else:
            _show(found, day, name)
    for problem in wrong:
        say(f"grid: {problem}", err=True)
    if wrong or differ:
        sys.exit(PROBLEM)


def _account(found: Audit, node: str, day: date) -> str:
    names = {line.account for line in lines(found)} | {account(id_) for book in found.books for id_ in book.settled.missing}
    for name in (node, account(node)):
        if name in names:
            return name
    fail(f"no node {node!r} in the slots of {day}. There are: {', '.join(sorted(names)) or 'none'}")


# for people


def _show(found: Audit, day: date, name: str | None) -> None:
    whom = f", {name}" if name is not None else f", corrections: {len(found.corrections)}"
    say(bold(f"{day} UTC, slots: {len(found.books)}{whom}"))
    if not found.books and not found.corrections:
        say("no slot of this day is settled here; each is, 20 s after its end")
        return
    if name is None:
        show(SLOTS, [_slot_row(book.settled) for book in found.books])
    else:
        show(OF_NODE, _node_rows(found, name))
    made = [line for line in lines(found) if name in (None, line.account)]
    late = [line for line in made if line.corrects_s is not None]
    if late:
        say("")
        amounts = money_texts(line.nano for line in late)
        show(CORRECTIONS, [_late_row(line, amount) for line, amount in zip(late, amounts, strict=True)])
    say("")
    sums = totals(made)
    amounts, corrected = (money_texts(getattr(total, what) for total in sums.values()) for what in ("nano", "corrected"))
    show(
        TOTALS,
        [
            [who, total.import_wh, total.export_wh, amount, currency, late_amount]
            for ((who, currency), total), amount, late_amount in zip(sums.items(), amounts, corrected, strict=True)
        ],
    )


def _slot_row(settled: Settled) -> list[Any]:
    s = settled
    nodes = f"{len(s.uses)}/{len(s.uses) + len(s.missing)}"
    flags = ", ".join(f"{node}: {why}" for node, why in s.flags.items())
    missing = ", ".join(f"{node}: {why}" for node, why in s.missing.items())
    prices = price_text(s.buy_u), price_text(s.sell_u)
    flags = ", ".join(filter(None, [_island(s), flags]))
    return [_clock(start_s(s)), s.zone, s.revision, s.digest[:12], *prices, nodes, sum(entries(s).values()), flags, missing]


def _island(s: Settled) -> str:
    """What made its price where a generator formed the grid."""
    if s.island is None:
        return ""
    return f"island: {s.island.wanted} Wh wanted, {s.island.available} could be made{', some shed' if s.island.shed else ''}"


def _node_rows(found: Audit, name: str) -> list[list[Any]]:
    settled = {(start_s(book.settled), book.settled.zone): book.settled for book in found.books}
    ours = {(line.start_s, line.zone): line for line in lines(found) if line.account == name and line.corrects_s is None}
    amounts = dict(zip(ours, money_texts(line.nano for line in ours.values()), strict=True))
    rows: list[list[Any]] = []
    for key, s in settled.items():
        about = {account(node): why for node, why in (s.flags | s.missing).items()}.get(name, "")
        prices = price_text(s.buy_u), price_text(s.sell_u)
        line = ours.get(key)
        wh = (_blank(line.import_wh), _blank(line.export_wh)) if line is not None else ("", "")
        rows.append([_clock(key[0]), s.zone, s.revision, s.digest[:12], *prices, *wh, amounts.get(key, ""), about])
    return rows


def _blank(value: int | None) -> int | str:
    return "" if value is None else value


def _late_row(line: Line, amount: str) -> list[Any]:
    assert line.corrects_s is not None  # a correction's
    of_slot = f"{iso(line.corrects_s)[5:10]} {_clock(line.corrects_s)}"
    return [_clock(line.start_s), of_slot, line.zone, line.revision, line.digest[:12], line.account, amount]


def _clock(unix_s: int) -> str:
    """The time of day, UTC."""
    return iso(unix_s)[11:19].removesuffix(":00")


def _show_differing(differ: list[Differs], me: str, day: str, slots: int, as_json: bool) -> None:
    if as_json:
        say_json({"node": me, "day": day, "slots": slots, "differ": [one.as_json() for one in differ]})
    elif not differ:
        say(f"{day} UTC, slots: {slots}, the same in both stores")
    else:
        table = [[_clock(one.start_s), one.zone, what, *map(_told, both)] for one in differ for what, both in one.what.items()]
        show(DIFFERS, table)


def _told(value: Any) -> str:
    if isinstance(value, Want):
        says = (f"{value.wanted_wh} wanted, {value.avail_wh} could be made (Wh)", value.feeder, "some shed" if value.shed else "")
        return ", ".join(filter(None, says))
    if isinstance(value, Island):
        return f"{value.wanted} wanted, {value.available} could be made (Wh){', some shed' if value.shed else ''}"
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]} in, {value[1]} out (Wh)"
    return "nothing" if value is None else str(value)


# for programs


def _as_csv(made: Iterable[Line], name: str | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV)
    for line in made:
        if name in (None, line.account):
            of_slot = iso(line.corrects_s) if line.corrects_s is not None else ""
            wh = _blank(line.import_wh), _blank(line.export_wh)
            amount = money_text(line.nano)
            row = (iso(line.start_s), line.zone, line.account, *wh, amount, line.currency, of_slot, line.revision, line.digest)
            writer.writerow(row)
    return text.getvalue().rstrip("\n")


def _as_json(found: Audit, me: str, day: date, name: str | None) -> dict[str, Any]:
    def only(books: dict[str, int]) -> dict[str, int]:
        return {who: nano for who, nano in books.items() if name in (None, who)}

    def slot(book: Book) -> dict[str, Any]:
        s = book.settled
        return {**_head(s), "entries": only(entries(s)), "sum": sum(entries(s).values())} | {
            **_parts(s),
            "corrected": [correction(one) | _parts(one.after) for one in book.later],
        }

    def correction(one: Correction) -> dict[str, Any]:
        after, change = one.after, one.entries
        booked = {"booked": after.booked, "booked_start": iso(booked_s(after))}
        return {**_head(after), **booked, "currency": after.currency, "entries": only(change), "sum": sum(change.values())}

    return {
        "node": me,
        "day": str(day),
        "slots": [slot(book) for book in found.books],
        "corrections": [correction(one) for one in found.corrections],
        "totals": [
            {"account": who, "currency": currency, "import_wh": t.import_wh, "export_wh": t.export_wh}
            | {"nano": t.nano, "corrected_nano": t.corrected}
            for (who, currency), t in totals(line for line in lines(found) if name in (None, line.account)).items()
        ],
        "problems": found.problems,
    }


def _head(s: Settled) -> dict[str, Any]:
    head = {"slot": s.slot, "zone": s.zone, "revision": s.revision, "digest": s.digest}
    return head | {"price_buy_u": s.buy_u, "price_sell_u": s.sell_u, "start": iso(start_s(s)), "slot_s": s.slot_s}


def _parts(s: Settled) -> dict[str, Any]:
    """All else that the digest stands for, and what this node saw."""
    rates = {name: getattr(s, name) for name in ("rule", "currency", "import_u", "export_u", "floor_u", "cap_u", "island")}
    return rates | {"uses": s.uses, **({"wants": s.wants} if s.wants else {}), "missing": s.missing, "flags": s.flags}
