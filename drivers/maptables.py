"""Map tables: the tables of a meter's TOML file, the registers they describe, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Literal

import msgspec

from drivers.reading import QUANTITIES, signed
from drivers.registers import MOST_REGISTERS, Device, Kind, Order, Protocol, Reg

# What a key means stands at the field of that name in registers.py.

# TOML's hexadecimal numbers have no end (and no sign), and CPython does not print one of thousands of digits
# (sys.set_int_max_str_digits)
Whole = Annotated[int, msgspec.Meta(le=2**63 - 1)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all tables have in common: an unknown key is an error."""


class MeterTable(Table, frozen=True):
    id: str
    vendor: str
    models: tuple[str, ...]
    phases: Whole
    trust: Literal["A", "B", "C"]
    sources: tuple[str, ...]
    protocol: Protocol = "modbus"
    device: Device = "meter"
    flip: bool = False  # its watts are + when they leave; the names of the counters are right as they stand
    directional: bool = True
    alike: tuple[str, ...] = ()


class LinkTable(Table, frozen=True):
    baud: Whole = 9600
    framing: str = "8N1"
    unit: Whole = 1
    tcp_port: Whole | None = None
    connect_delay_ms: Whole = 0
    single_client: bool = False


class ReadTable(Table, frozen=True):
    fc: Whole
    word_order: Order = "big"
    max_regs: Whole = MOST_REGISTERS
    max_gap: Whole = 0  # read along only what a source shows to be readable
    align: Whole = 1
    timeout_ms: Whole = 500


class RegRow(Table, frozen=True):
    at: Whole
    type: Kind
    scale: Whole | float = 1
    missing: int | tuple[int, ...] = ()
    slow: bool = False
    optional: bool = False
    raw: bool = False  # no quantity: only for [derive]
    fc: Whole | None = None  # where it differs from [read]


class MustTable(Table, frozen=True):
    at: Whole
    type: Kind
    one_of: tuple[int, ...]
    say: str = ""
    optional: bool = False
    fc: Whole | None = None


class DerivedRow(Table, frozen=True):
    sum: tuple[str, ...]  # "name" adds, "-name" subtracts


class CheckTable(Table, frozen=True):
    range: Mapping[str, tuple[Whole | float, Whole | float]] = {}
    sum: Mapping[str, tuple[str, ...]] = {}
    sum_abs: Whole | float = 10
    sum_rel: Whole | float = 0.02
    wrap_wh: Whole | None = None


class ExampleRow(Table, frozen=True):
    words: tuple[Whole, ...] | Mapping[str, tuple[Whole, ...]]  # the second form, by register, shows a derived quantity
    reads: Whole | float
    source: str


class File(Table, frozen=True):
    meter: MeterTable
    link: LinkTable = LinkTable()
    read: ReadTable | None = None
    regs: Mapping[str, RegRow] = {}
    derive: Mapping[str, DerivedRow] = {}
    ident: MustTable | None = None  # tells the model
    require: MustTable | None = None  # tells a setting that the map needs
    check: CheckTable = CheckTable()
    example: Mapping[str, ExampleRow] = {}


_MUST = ("ident", "require")


def problems(tables: File) -> list[tuple[str, str]]:
    """(key, what and way out) of everything wrong that types alone do not show."""
    meter, link, read = tables.meter, tables.link, tables.read
    wrong = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", meter.id):
        wrong.append(("meter.id", f"{meter.id!r} must be small letters, digits and '-', like eastron-sdm630"))
    if not 1 <= meter.phases <= 3:
        wrong.append(("meter.phases", f"{meter.phases} must be 1, 2 or 3"))
    if not re.fullmatch("[78][NEO][12]", link.framing):
        wrong.append(("link.framing", f"{link.framing!r} must be data bits, parity N, E or O, stop bits: like 8N1"))
    if not 0 <= link.unit <= 255:
        wrong.append(("link.unit", f"{link.unit} must be 0 to 255; on a serial line 1 to 247"))
    if link.tcp_port is not None and not 1 <= link.tcp_port <= 65535:
        wrong.append(("link.tcp_port", f"{link.tcp_port} must be 1 to 65535; Modbus TCP has 502"))
    if link.connect_delay_ms < 0:
        wrong.append(("link.connect_delay_ms", "must be 0 or more milliseconds"))
    if meter.protocol != "modbus":
        blank = File(meter)
        others = [name for name in File.__struct_fields__ if name != "link" and getattr(tables, name) != getattr(blank, name)]
        wrong += [(name, f'a meter of protocol "{meter.protocol}" has no registers; remove it') for name in others]
        return wrong + [("meter.flip", "is of registers only; write it at the meter in grid.toml")] * meter.flip
    if read is None:
        return [*wrong, ("read", "is missing; say at least with which function registers are read, like fc = 4")]
    if not 1 <= read.max_regs <= MOST_REGISTERS:
        wrong.append(("read.max_regs", f"{read.max_regs} must be 1 to {MOST_REGISTERS}"))
    if read.align < 1 or read.max_gap < 0:
        wrong.append(("read.align", "align must be 1 or more, max_gap 0 or more"))
    return wrong or _wrong_regs(tables, read) or _wrong_derived(tables) or _wrong_checks(tables)


def _wrong_regs(tables: File, read: ReadTable) -> list[tuple[str, str]]:
    wrong = []
    regs = regs_of(tables)
    keys = {name: f"regs.{name}" if name in tables.regs else name for name in regs}
    for name, reg in regs.items():
        key = keys[name]
        wrong += [(key, what) for what in _wrong_reg(reg, read)]
        if name not in tables.regs:
            if not reg.one_of or any(not 0 <= value < 1 << 16 * reg.count for value in reg.one_of) or reg.kind[0] != "u":
                wrong.append((key, f"one_of must list numbers below 2^{16 * reg.count}, and type must be u16, u32 or u64"))
            continue
        row = tables.regs[name]
        if row.scale <= 0:
            wrong.append((key, "scale must be above 0; a device that counts the other way says flip = true in [meter]"))
        if row.raw:
            if name in (*QUANTITIES, *_MUST):
                wrong.append((key, "raw = true is for what is no quantity; give it a name of its own"))
        elif name not in QUANTITIES:
            close = get_close_matches(name, QUANTITIES, 1)
            choice = f"did you mean {close[0]!r}?" if close else f"choose of {', '.join(QUANTITIES)}, or say raw = true"
            wrong.append((key, f"no such quantity; {choice}"))
    for a, b in pairwise(sorted(regs.values(), key=lambda reg: (reg.fc, reg.address))):
        if a.fc == b.fc and a.end > b.address:
            wrong.append((keys[b.name], f"overlaps {a.name}; correct one of the two addresses"))
    watts = [tables.regs[part] for part in terms_of(tables, "w") if part in tables.regs]
    if not watts or any(reg.slow or reg.optional for reg in watts):
        wrong.append(("regs.w", "every map needs the total watts, here or in [derive], neither slow nor optional"))
    return wrong


def _wrong_reg(reg: Reg, read: ReadTable) -> list[str]:
    wrong = []
    if reg.fc not in (3, 4):
        wrong.append(f"fc = {reg.fc} must be 3 (holding) or 4 (input)")
    if reg.address < 0 or reg.end > 65536:
        wrong.append(f"at = {reg.address} must be 0 to {65536 - reg.count}; manuals often print address + 1 or + 30001")
    if reg.count > read.max_regs:
        wrong.append(f"fills {reg.count} registers, but max_regs is {read.max_regs}")
    if reg.address % read.align or reg.count % read.align:
        wrong.append(f"at and size must be multiples of align = {read.align}")
    if any(not 0 <= pattern < 1 << 16 * reg.count for pattern in reg.missing):
        wrong.append(f"missing must be the bit pattern as an unsigned number below 2^{16 * reg.count}, like 0x80000000")
    return wrong


def _wrong_derived(tables: File) -> list[tuple[str, str]]:
    wrong = []
    for name in tables.derive:
        terms = [tables.regs.get(part) for part in terms_of(tables, name)]
        if name not in QUANTITIES or name in tables.regs:
            wrong.append((f"derive.{name}", "must be a quantity that [regs] has not"))
        elif not terms or None in terms or len({reg.slow for reg in terms if reg}) > 1:
            wrong.append((f"derive.{name}", 'sum must list registers of [regs], as "name" or "-name", all slow or none'))
        elif tables.meter.flip and signed(name) and any(reg.raw for reg in terms if reg):
            wrong.append((f"derive.{name}", "flip = true does not reach raw registers; write their signs into the sum"))
    used = {part for name in tables.derive for part in terms_of(tables, name)}
    return wrong + [
        (f"regs.{name}", "is raw, but nothing is derived from it; use it in [derive] or remove it")
        for name, reg in tables.regs.items()
        if reg.raw and name not in used
    ]


def _wrong_checks(tables: File) -> list[tuple[str, str]]:
    known, check = {*tables.regs, *tables.derive}, tables.check
    wrong = [
        (f"{table}.{name}", "names a quantity that [regs] has not")
        for table, names in (("check.range", check.range), ("check.sum", check.sum), ("example", tables.example))
        for name in names
        if name not in known or (table == "example" and name not in QUANTITIES)
    ]
    for name, (low, high) in check.range.items():
        if not low < high:
            wrong.append((f"check.range.{name}", f"{low} must be below {high}"))
    for name, parts in check.sum.items():
        pace = _slow(tables, name)
        if name in known and any(part not in known or _slow(tables, part) != pace for part in parts):
            wrong.append((f"check.sum.{name}", "its parts must stand in [regs] and be asked for as often as the total"))
    if check.wrap_wh is not None and check.wrap_wh < 1:
        wrong.append(("check.wrap_wh", "must be the highest count in Wh; leave it out when it is not known"))
    regs = regs_of(tables)
    for name in (name for name in tables.example if name in known):
        sizes, words = {part: regs[part].count for part in terms_of(tables, name)}, example_words(tables, name)
        size = ", ".join(f"{count} numbers of 0 to 0xFFFF for {part}" for part, count in sizes.items())
        if {part: len(some) for part, some in words.items()} != sizes or not all(
            0 <= word <= 0xFFFF for some in words.values() for word in some
        ):
            wrong.append((f"example.{name}", f"words must be {size}"))
    return wrong


def terms_of(tables: File, name: str) -> list[str]:
    """The registers that a quantity is made of."""
    return [part.removeprefix("-") for part in tables.derive[name].sum] if name in tables.derive else [name]


def _slow(tables: File, name: str) -> bool:
    return any(tables.regs[part].slow for part in terms_of(tables, name) if part in tables.regs)


def example_words(tables: File, name: str) -> Mapping[str, tuple[int, ...]]:
    words = tables.example[name].words
    return {name: words} if isinstance(words, tuple) else words


def regs_of(tables: File) -> dict[str, Reg]:
    """Every register, in the order of the file; what must hold a certain number comes last."""
    fc, flip = tables.read.fc if tables.read else 0, tables.meter.flip
    regs = {}
    for name, reg in tables.regs.items():
        missing = (reg.missing,) if isinstance(reg.missing, int) else reg.missing
        scale = -exact(reg.scale) if flip and signed(name) else exact(reg.scale)
        regs[name] = Reg(
            name, fc if reg.fc is None else reg.fc, reg.at, reg.type, scale, frozenset(missing), reg.slow, reg.optional
        )
    for name, must in zip(_MUST, (tables.ident, tables.require), strict=True):
        if must is not None and name not in regs:
            regs[name] = Reg(
                name,
                fc if must.fc is None else must.fc,
                must.at,
                must.type,
                slow=True,
                optional=must.optional,
                one_of=frozenset(must.one_of),
                say=must.say,
            )
    return regs


def exact(number: int | float) -> Fraction:
    """0.1 in a file means one tenth."""
    return Fraction(str(number))
