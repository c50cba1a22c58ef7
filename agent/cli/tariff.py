"""grid tariff: the shared tariff, what is to come of it, and how to change it for everybody."""

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
import msgspec

from agent import tariffs, wire
from agent.accounts import Settled, account, entries, settle
from agent.audit import money_text, money_texts
from agent.cli.audit import rows_of
from agent.cli.main import config_option, json_option
from agent.cli.table import Column, bold, show
from agent.cli.words import ask, fail, load, say, say_json
from agent.config import Config
from agent.decode import decode
from agent.events import SetTariff
from agent.forms import Unfit, a_currency, micro
from agent.own import iso
from agent.price import RULES
from agent.wire import DAY_S, Rates, Tariff, price_text

NAMES = {
    "import_u": "import",
    "export_u": "export",
    "floor_u": "floor",
    "cap_u": "cap",
    "currency": "currency",
    "slot_s": "slot",
    "rule": "rule",
}


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def tariff(ctx: click.Context, path: Path | None, as_json: bool) -> None:
    """The shared tariff in force, and what of it is to come; 'set' changes it for everybody."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = path
        return
    config = load(path)
    held, unix_s = _held(config), time.time()
    now, coming = tariffs.rates_at(held, unix_s), tariffs.pending(held, unix_s)
    differs = _differs(held, config)
    if as_json:
        said = {"in_force": now and _as_json(now), "pending": [_as_json(rates) for rates in coming]}
        say_json({**said, "file_differs": differs, "by": held.by, "version": held.version})
        return
    say(bold(f"the network's tariff, by {held.by}, version {held.version}"))
    columns = {"in force": now, **{f"then {number + 1}" if number else "to come": rates for number, rates in enumerate(coming)}}
    known = {head: rates for head, rates in columns.items() if rates is not None}
    show((Column("tariff"), *map(Column, known)), _table(list(known.values())))
    for rates in coming:
        say(_when(rates, unix_s))
    for rates in known.values():
        if rates.rule not in RULES:
            say(f"this version does not know the rule {rates.rule[:40]!r}: update this node")
    if differs:
        say(f"{config.path}: [tariff] differs in {', '.join(differs)}; it is ignored, the network's tariff holds")


def _held(config: Config) -> Tariff:
    """The record that the running agent holds, or the end."""
    told = ask(config, "status").get("tariff")
    if told is None:
        fail("the agent does not tell its tariff: start it anew, in this version")
    record = decode(wire.place(wire.network_topic(wire.TARIFF)), msgspec.json.encode(told))
    assert isinstance(record, Tariff)
    return record


def _differs(held: Tariff, config: Config) -> list[str]:
    return [name for key, name in NAMES.items() if getattr(held, key) != getattr(config.tariff, key)]


def _as_json(rates: Rates) -> dict[str, Any]:
    return {**msgspec.to_builtins(rates), "begins": iso(tariffs.begins_s(rates))}


def _table(columns: list[Rates]) -> list[list[str]]:
    rows = [[name, *(_text(rates, key) for rates in columns)] for key, name in NAMES.items()]
    return [*rows, ["from (UTC)", *(_minute(tariffs.begins_s(rates)) if rates.from_slot else "the start" for rates in columns)]]


def _text(rates: Rates, key: str) -> str:
    value = getattr(rates, key)
    if key == "slot_s":
        return f"{value // 60} min" if value % 60 == 0 else f"{value} s"
    return price_text(value) if key.endswith("_u") else str(value)


def _minute(unix_s: float) -> str:
    return iso(unix_s).replace(":00Z", "Z")


def _when(rates: Rates, unix_s: float) -> str:
    begins_s = tariffs.begins_s(rates)
    local = datetime.fromtimestamp(begins_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    minutes = int(begins_s - unix_s) // 60
    return f"to come at {_minute(begins_s)} (here {local}), in {minutes // 60} h {minutes % 60} min"


# changing it


def _amount(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Micro-currency, exact."""
    if value is None:
        return None
    try:
        return micro(Decimal(value))
    except InvalidOperation:
        way_out = f". Write {value.replace(',', '.')}" if re.fullmatch(r"-?[0-9]{1,3},[0-9]{1,6}", value) else ""
    except Unfit:
        way_out = ""
    raise click.BadParameter(f"{value[:40]!r} is not a number from -1000 to 1000 with at most 6 decimals{way_out}")


def _code(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    try:
        return a_currency(value) if value is not None else None
    except Unfit as error:
        way_out = f". Write {error.instead}" if error.instead else ""
        raise click.BadParameter(f"must be three capital letters as in ISO 4217, not {(value or '')[:40]!r}{way_out}") from error


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return int(moment.timestamp())
    except (ValueError, OverflowError) as error:
        text = f"{value[:40]!r} is no moment. Write one as 2026-11-23T00:00Z (UTC) or 2026-11-23T01:00+01:00"
        raise click.BadParameter(text) from error


def _rate(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", f"{name}_u", metavar="N", callback=_amount, help=f"{text}, currency per kWh.")


@tariff.command("set")
@_rate("import", "What the outside grid takes for a kWh")
@_rate("export", "What it gives for a kWh")
@_rate("floor", "The lowest price in an island")
@_rate("cap", "The highest price in an island")
@click.option("--currency", callback=_code, metavar="EUR", help="Three capital letters; from a midnight (UTC) on.")
@click.option("--rule", type=click.Choice(list(RULES)), help="How the price comes about.")
@click.option("--slot-min", type=click.Choice(["1", "5", "10", "15", "30", "60"]), help="Minutes; from a midnight (UTC) on.")
@click.option("--from", "from_s", callback=_moment, metavar="TIME", help="When, as 2026-11-23T00:00Z; else two slots ahead.")
@click.option("--yes", is_flag=True, help="Do it; without it nothing is changed.")
@config_option
@click.pass_context
def change(ctx: click.Context, /, path: Path | None, slot_min: str | None, yes: bool, **asked: Any) -> None:
    """Change the shared tariff, at every node alike. Shows first what it would do, and what it would have done yesterday."""
    wanted = SetTariff(slot_s=int(slot_min) * 60 if slot_min is not None else None, **asked)
    if wanted == SetTariff(from_s=wanted.from_s):
        raise click.UsageError("say what is to change, for example: grid tariff set --import 0.31")
    config = load(path or ctx.obj)
    held, unix_s = _held(config), time.time()
    try:
        keys = tariffs.change(held, wanted, config.node.id, unix_s)
        record = decode(wire.place(wire.network_topic(wire.TARIFF)), wire.encode(keys))
    except ValueError as error:
        fail(f"the tariff stays: {error}")
    assert isinstance(record, Tariff)
    _preview(config, held, record, unix_s)
    if not yes:
        say("nothing changed; run again with --yes")
        return
    answer = ask(config, "tariff", msgspec.json.encode(wanted).decode())
    begins_s = answer["from"] * answer["slot_s"]
    when = f"from {_minute(begins_s)} on" if begins_s > unix_s else "what was to come is taken back"
    say(f"changed: version {answer['version']}, {when}. It is on its way to every node")


def _preview(config: Config, held: Tariff, record: Tariff, unix_s: float) -> None:
    now, new = tariffs.rates_at(held, unix_s) or held.rates, record.rates
    show((Column("tariff"), Column("now"), Column("new")), [row for row in _table([now, new]) if row[1] != row[2]])
    for rates in tariffs.pending(held, unix_s):
        if rates not in tariffs.timeline(record):
            lost = ", ".join(f"{name} {_text(rates, key)}" for key, name in NAMES.items() if _text(rates, key) != _text(now, key))
            say(f"in place of what was to come at {_minute(tariffs.begins_s(rates))}: {lost}; name it, too, to keep it")
    if tariffs.begins_s(new) > unix_s:
        say(_when(new, unix_s))
    say("")
    _effect(config, now, new, unix_s)


def _effect(config: Config, now: Rates, new: Rates, unix_s: float) -> None:
    """The last day's settled slots at the old and the new rates; the same energy, so that nobody reacts to the price."""
    rows, trouble = rows_of(config, int(unix_s) - DAY_S, int(unix_s))
    if trouble:
        say(trouble, err=True)
    newest = {(row.slot, row.slot_s, row.zone): row for row in sorted(rows, key=lambda row: row.revision)}
    day = [s for s in newest.values() if s.currency == now.currency and unix_s - DAY_S < (s.slot + 1) * s.slot_s <= unix_s]
    if not day:
        say("the last day's effect is not known: no slot of it is in this node's ledger")
        return
    before, after = _sums(map(entries, day)), _sums(entries(_again(settled, new)) for settled in day)
    names = [*(name for name in before if name not in ("grid", "pool")), "grid", "pool"]
    same = now.currency == new.currency
    texts = [money_texts(books[name] for name in names) for books in (before, after)]
    texts.append(money_texts(after[name] - before[name] for name in names) if same else [""] * len(names))
    say(bold(f"the last day ({len(day)} slots settled), had the new tariff held; + is earned, - is paid"))
    heads = (f"was {now.currency}", f"would be {new.currency}", "change")
    columns = (Column("account"), Column(heads[0], 1, number=True), Column(heads[1], number=True), Column(heads[2], number=True))
    show(columns, [list(row) for row in zip(names, *texts, strict=True)])
    me = account(config.node.id)
    if me in before:
        amounts = f"{money_text(before[me])} {now.currency}, would be {money_text(after[me])} {new.currency}"
        say(f"this node ({config.node.id}): {amounts}")
    else:
        say(f"this node ({config.node.id}) has no part in these slots")


def _again(settled: Settled, rates: Rates) -> Settled:
    rates = msgspec.structs.replace(rates, slot_s=settled.slot_s)
    again = settle(settled.slot, settled.zone, settled.uses, rates, settled.wants)
    assert again is not None  # `change` takes no rule that this version does not know
    return again


def _sums(books: Iterable[dict[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for book in books:
        for name, nano in book.items():
            sums[name] = sums.get(name, 0) + nano
    return sums
