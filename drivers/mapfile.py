"""Map files: the text of a meter's TOML file becomes a checked Map."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from drivers.maptables import DerivedRow, ExampleRow, File, ReadTable, RegRow, Table, exact, example_words, problems, regs_of
from drivers.reading import DIGITS
from drivers.registers import Example, Map, MapError, measure

_ROWS: Mapping[str, type[Table]] = {"regs": RegRow, "derive": DerivedRow, "example": ExampleRow}


class _NotFinite(ValueError):
    """inf, nan or what is too large for a float, as it is written."""


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise _NotFinite(text)
    return float(text)


def parse(text: str, file: str) -> Map:
    """The map that `text` describes; `file` is only named in messages. Raises MapError."""
    try:
        raw = tomllib.loads(text, parse_float=_finite)
    except tomllib.TOMLDecodeError as error:
        raise MapError(f"{file}: {error}. Correct the TOML there") from error
    except _NotFinite as error:
        number = next(number for number, line in enumerate(text.splitlines(), 1) if str(error) in line)
        raise MapError(f"{file}:{number}: {error} is no number that a meter can have. Write one with digits") from error
    except (ValueError, RecursionError) as error:
        raise MapError(f"{file}: a number of thousands of digits, or lists too deep inside each other. Remove it") from error
    try:
        tables = msgspec.convert(raw, File)
    except msgspec.ValidationError as error:
        key = _key_of(str(error), raw)
        raise MapError(f"{file}{_line(text, key)}: {key}: {error}{_way_out(str(error))}") from error
    wrong = problems(tables)
    if wrong:
        raise MapError("\n".join(f"{file}{_line(text, key)}: {key}: {what}" for key, what in wrong))
    map_ = _map(tables)
    wrong = _wrong_examples(map_)
    if wrong:
        raise MapError("\n".join(f"{file}{_line(text, key)}: {key}: {what}" for key, what in wrong))
    return map_


def _wrong_examples(map_: Map) -> list[tuple[str, str]]:
    """A worked example that does not come out: a wrong scale, type, word order or address is seen before any meter is."""
    wrong = []
    for example in map_.examples:
        made = measure(map_, example.words).values.get(example.name)
        if made != example.value:
            way_out = "are type, scale and word_order right? else correct or remove the example"
            what = f"its words make {made}, not {example.value}; {way_out}"
            wrong.append((f"example.{example.name}", what))
    return wrong


def _key_of(error: str, raw: Mapping[str, Any]) -> str:
    """The dotted key that msgspec complains of. It calls the rows of a table [...]: the first that is wrong is looked for."""
    path = re.search(r" - at `\$\.?(.*)`", error)
    key, field = path[1] if path else "", re.search(r"field `(.+?)`", error)
    table, row, rest = key.partition("[...]")
    if row and table in _ROWS:
        key = f"{table}.{next(name for name, value in raw[table].items() if not _fits(value, _ROWS[table]))}{rest}"
    return ".".join(part for part in (re.sub(r"\[.*?\]", "", key), field and field[1]) if part)


def _fits(value: object, row: type[Table]) -> bool:
    try:
        msgspec.convert(value, row)
    except msgspec.ValidationError:
        return False
    return True


def _way_out(error: str) -> str:
    unknown = re.search("unknown field `(.+?)`", error)
    if not unknown:
        return ". Write it as the maps of drivers/meters do"
    known = {field.name for table in Table.__subclasses__() for field in msgspec.structs.fields(table)}
    close = get_close_matches(unknown[1], sorted(known), 1)
    return f". Did you mean {close[0]!r}?" if close else ". Remove it"


def _line(text: str, key: str) -> str:
    """ ":12" where the dotted key, or the nearest thing around it, is set for the first time; "" if nowhere."""
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        table, name = ".".join(parts[: depth - 1]), parts[depth - 1]
        inside = not table
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("["):
                inside = line.split("]")[0] == f"[{table}"
                if line.split("]")[0] == f"[{'.'.join(parts[:depth])}":
                    return f":{number}"
            elif inside and re.match(rf"\s*{re.escape(name)}\s*=", line):
                return f":{number}"
    return ""


def _map(tables: File) -> Map:
    meter, link, read, check = tables.meter, tables.link, tables.read or ReadTable(fc=3), tables.check
    return Map(
        id=meter.id,
        vendor=meter.vendor,
        models=meter.models,
        phases=meter.phases,
        trust=meter.trust,
        sources=meter.sources,
        protocol=meter.protocol,
        device=meter.device,
        directional=meter.directional,
        alike=meter.alike,
        baud=link.baud,
        framing=link.framing,
        unit=link.unit,
        tcp_port=link.tcp_port,
        connect_delay_s=link.connect_delay_ms / 1000,
        single_client=link.single_client,
        word_order=read.word_order,
        max_regs=read.max_regs,
        max_gap=read.max_gap,
        align=read.align,
        timeout_s=read.timeout_ms / 1000,
        regs=regs_of(tables),
        derived={
            name: tuple((-1 if part.startswith("-") else 1, part.removeprefix("-")) for part in derived.sum)
            for name, derived in tables.derive.items()
        },
        ranges={name: (exact(low), exact(high)) for name, (low, high) in check.range.items()},
        sums=check.sum,
        sum_abs=exact(check.sum_abs),
        sum_rel=exact(check.sum_rel),
        wrap_wh=check.wrap_wh,
        examples=tuple(
            Example(
                name,
                example_words(tables, name),
                round(example.reads, DIGITS[name]) if DIGITS[name] else int(example.reads),
                example.source,
            )
            for name, example in tables.example.items()
        ),
    )
