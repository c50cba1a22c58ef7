"""Map files: the text of a meter's TOML file becomes a checked Map."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise

import msgspec

from drivers.reading import DIGITS, QUANTITIES
from drivers.registers import MOST_REGISTERS, Example, Kind, Map, MapError, Order, Reg

# The tables of a map file; what a key means stands at the field of that name in registers.py.


class _Meter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    vendor: str
    models: tuple[str, ...]
    phases: int
    trust: str
    sources: tuple[str, ...]
    flip: bool = False


class _Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    baud: int = 9600
    framing: str = "8N1"
    unit: int = 1


class _Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fc: int
    word_order: Order = "big"
    max_regs: int = MOST_REGISTERS
    max_gap: int = 0  # read along only what a source shows to be readable
    align: int = 1
    timeout_ms: int = 500


class _Reg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: int
    type: Kind
    scale: int | float = 1
    missing: int | tuple[int, ...] = ()
    slow: bool = False
    optional: bool = False
    fc: int | None = None  # where it differs from [read]


class _Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    range: Mapping[str, tuple[int | float, int | float]] = {}
    sum: Mapping[str, tuple[str, ...]] = {}
    sum_abs: int | float = 10
    sum_rel: int | float = 0.02


class _Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: tuple[int, ...]
    reads: int | float
    source: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    meter: _Meter
    read: _Read
    regs: Mapping[str, _Reg]
    link: _Link = _Link()
    check: _Check = _Check()
    example: Mapping[str, _Example] = {}


def parse(text: str, file: str) -> Map:
    """The map that `text` describes; `file` is only named in messages. Raises MapError."""
    try:
        tables = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise MapError(f"{file}: {error}. Correct the TOML there") from error
    except msgspec.ValidationError as error:
        raise MapError(f"{file}: {error}{_did_you_mean(str(error))}") from error
    wrong = _problems(tables)
    if wrong:
        raise MapError("\n".join(f"{file}{_line(text, key)}: {key}: {what}" for key, what in wrong))
    return _map(tables)


def _did_you_mean(error: str) -> str:
    unknown = re.search("unknown field `(.+?)`", error)
    known = {key for table in (_File, _Meter, _Link, _Read, _Reg, _Check, _Example) for key in table.__struct_fields__}
    close = get_close_matches(unknown[1], sorted(known), 1) if unknown else []
    return f". Did you mean {close[0]!r}?" if close else ""


def _line(text: str, key: str) -> str:
    """ ":12" where the last part of the dotted key is set for the first time after its table began; "" if nowhere."""
    table, _, name = key.rpartition(".")
    inside = not table
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            inside = line.split("]")[0] == f"[{table}"
        elif inside and re.match(rf"\s*{re.escape(name)}\s*=", line):
            return f":{number}"
    return ""


def _problems(tables: _File) -> list[tuple[str, str]]:
    """(key, what and way out) of everything wrong that types alone do not show."""
    wrong = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", tables.meter.id):
        wrong.append(("meter.id", f"{tables.meter.id!r} must be small letters, digits and '-', like eastron-sdm630"))
    if not re.fullmatch("[78][NEO][12]", tables.link.framing):
        wrong.append(("link.framing", f"{tables.link.framing!r} must be data bits, parity N, E or O, stop bits: like 8N1"))
    if not 0 <= tables.link.unit <= 255:
        wrong.append(("link.unit", f"{tables.link.unit} must be 0 to 255; on a serial line 1 to 247"))
    if not 1 <= tables.read.max_regs <= MOST_REGISTERS:
        wrong.append(("read.max_regs", f"{tables.read.max_regs} must be 1 to {MOST_REGISTERS}"))
    if tables.read.align < 1 or tables.read.max_gap < 0:
        wrong.append(("read.align", "align must be 1 or more, max_gap 0 or more"))
    wrong += _wrong_regs(tables) if not wrong else []
    wrong += _wrong_checks(tables) if not wrong else []
    return wrong


def _wrong_regs(tables: _File) -> list[tuple[str, str]]:
    wrong = []
    regs = {name: _reg(name, reg, tables.read.fc) for name, reg in tables.regs.items()}
    for name, reg in regs.items():
        key = f"regs.{name}"
        if name not in QUANTITIES:
            close = get_close_matches(name, QUANTITIES, 1)
            wrong.append(
                (key, f"no such quantity; {f'did you mean {close[0]!r}?' if close else 'choose of ' + ', '.join(QUANTITIES)}")
            )
        if reg.fc not in (3, 4):
            wrong.append((key, f"fc = {reg.fc} must be 3 (holding) or 4 (input)"))
        if reg.scale <= 0:
            wrong.append((key, "scale must be above 0; a device that counts the other way says flip = true in [meter]"))
        if reg.address < 0 or reg.end > 65536:
            wrong.append((key, f"at = {reg.address} must be 0 to {65536 - reg.count}; manuals often print address + 1 or + 30001"))
        if reg.count > tables.read.max_regs:
            wrong.append((key, f"fills {reg.count} registers, but max_regs is {tables.read.max_regs}"))
        if reg.address % tables.read.align or reg.count % tables.read.align:
            wrong.append((key, f"at and size must be multiples of align = {tables.read.align}"))
        if any(not 0 <= pattern < 1 << 16 * reg.count for pattern in reg.missing):
            wrong.append((key, f"missing must be the bit pattern as an unsigned number below 2^{16 * reg.count}"))
    if "w" not in regs or regs["w"].slow or regs["w"].optional:
        wrong.append(("regs.w", "every map needs the total watts, neither slow nor optional"))
    for a, b in pairwise(sorted(regs.values(), key=lambda reg: (reg.fc, reg.address))):
        if a.fc == b.fc and a.end > b.address:
            wrong.append((f"regs.{b.name}", f"overlaps {a.name}; correct one of the two addresses"))
    return wrong


def _wrong_checks(tables: _File) -> list[tuple[str, str]]:
    wrong = [
        (f"{table}.{name}", "names a quantity that [regs] has not")
        for table, names in (("check.range", tables.check.range), ("check.sum", tables.check.sum), ("example", tables.example))
        for name in names
        if name not in tables.regs
    ]
    for name, (low, high) in tables.check.range.items():
        if not low < high:
            wrong.append((f"check.range.{name}", f"{low} must be below {high}"))
    for name, parts in tables.check.sum.items():
        if any(
            part not in tables.regs or tables.regs[part].slow != tables.regs[name].slow for part in parts if name in tables.regs
        ):
            wrong.append((f"check.sum.{name}", "its parts must stand in [regs] and be asked for as often as the total"))
    for name, example in tables.example.items():
        size = _reg(name, tables.regs[name], tables.read.fc).count if name in tables.regs else len(example.words)
        if len(example.words) != size or any(not 0 <= word <= 0xFFFF for word in example.words):
            wrong.append((f"example.{name}", f"words must be {size} numbers of 0 to 0xFFFF"))
    return wrong


def _reg(name: str, reg: _Reg, fc: int) -> Reg:
    missing = (reg.missing,) if isinstance(reg.missing, int) else reg.missing
    return Reg(
        name, fc if reg.fc is None else reg.fc, reg.at, reg.type, _exact(reg.scale), frozenset(missing), reg.slow, reg.optional
    )


def _exact(number: int | float) -> Fraction:
    """0.1 in a file means one tenth."""
    return Fraction(str(number))


def _map(tables: _File) -> Map:
    meter, link, read, check = tables.meter, tables.link, tables.read, tables.check
    return Map(
        id=meter.id,
        vendor=meter.vendor,
        models=meter.models,
        phases=meter.phases,
        trust=meter.trust,
        sources=meter.sources,
        flip=meter.flip,
        baud=link.baud,
        framing=link.framing,
        unit=link.unit,
        word_order=read.word_order,
        max_regs=read.max_regs,
        max_gap=read.max_gap,
        align=read.align,
        timeout_s=read.timeout_ms / 1000,
        regs={name: _reg(name, reg, read.fc) for name, reg in tables.regs.items()},
        ranges={name: (_exact(low), _exact(high)) for name, (low, high) in check.range.items()},
        sums=check.sum,
        sum_abs=_exact(check.sum_abs),
        sum_rel=_exact(check.sum_rel),
        examples=tuple(
            Example(name, example.words, round(example.reads, DIGITS[name]) if DIGITS[name] else int(example.reads), example.source)
            for name, example in tables.example.items()
        ),
    )
