"""Registers: a meter's map, the blocks to ask for, and words to quantities and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from drivers.reading import DIGITS, Number, Quality, Reading, signed

Kind = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]
Order = Literal["big", "little"]
Rate = Literal["fast", "slow", "all"]
Protocol = Literal["modbus", "sunspec", "p1", "sml", "tic", "s0"]
Device = Literal["meter", "generator"]
_RATES: tuple[Rate, ...] = ("fast", "slow", "all")
Words = Sequence[int]  # 16-bit registers in the order of their addresses

FORMATS: Mapping[str, str] = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}
MOST_REGISTERS = 125  # Modbus application protocol V1.1b3, 6.3: quantity of registers 1 to 125


class MapError(ValueError):
    """A register map that cannot be used; says file, key, what is wrong and the way out."""


@dataclass(frozen=True, slots=True)
class Reg:
    """One quantity's place in the meter; or a raw number's, from which quantities are derived or the model is told."""

    name: str  # canonical quantity, see reading.QUANTITIES; any other name is a raw number and never shown
    fc: int  # 3 holding, 4 input
    address: int  # zero-based, as on the wire
    kind: Kind
    scale: Fraction = Fraction(1)  # quantity = raw * scale; below 0 where the device counts the other way
    missing: frozenset[int] = frozenset()  # bit patterns that say "not available", as unsigned numbers
    slow: bool = False  # asked for every ten seconds, not every second
    optional: bool = False  # some devices of this model refuse it: asked for alone
    one_of: frozenset[int] = frozenset()  # it must hold one of these, else the reading is suspect; asked for alone
    say: str = ""  # the way out when it does not

    @property
    def alone(self) -> bool:
        """It shares no request: one illegal address fails the whole block."""
        return self.optional or bool(self.one_of)

    @property
    def count(self) -> int:
        """Registers it fills: 1, 2 or 4."""
        return struct.calcsize(">" + FORMATS[self.kind]) // 2

    @property
    def end(self) -> int:
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Example:
    """Words a meter sent (or a manual prints) and the value they mean, after rounding."""

    name: str
    words: Mapping[str, tuple[int, ...]]  # by register: one, or those a derived quantity is made of
    value: Number
    source: str


@dataclass(frozen=True, slots=True)
class Map:
    """A model's registers, limits, factory link settings and plausible ranges. Facts with sources, from one TOML file."""

    id: str
    vendor: str
    models: tuple[str, ...]
    phases: int
    trust: str  # A vendor document and one independent implementation, B two implementations, C one source
    sources: tuple[str, ...]
    protocol: Protocol  # only "modbus" has registers; another one's readers know their own
    device: Device  # a generator's w is - when it produces, as that of a meter in front of it
    directional: bool  # False: it shows the size of w only, so that it cannot tell taking from giving
    alike: tuple[str, ...]  # models that are easily taken for this one
    baud: int  # factory setting, like framing and unit
    framing: str
    unit: int
    tcp_port: int | None  # None: a meter on a serial line; behind a gateway it has the gateway's port
    connect_delay_s: float  # it answers nothing for this long after a connection was made
    single_client: bool  # a second connection breaks the first; nothing can be done about it but to know
    word_order: Order
    max_regs: int  # most registers of one request
    max_gap: int  # unused registers that may be read along
    align: int  # start and count must be multiples of it
    timeout_s: float  # the meter may take this long to answer
    regs: Mapping[str, Reg]
    derived: Mapping[str, tuple[tuple[int, str], ...]]  # quantity -> its terms (+1 or -1, register)
    ranges: Mapping[str, tuple[Fraction, Fraction]]  # plausible values
    sums: Mapping[str, tuple[str, ...]]  # quantity -> its parts
    sum_abs: Fraction  # tolerance of the sums, absolute …
    sum_rel: Fraction  # … or relative to the total, whichever is greater
    wrap_wh: int | None  # the counters start again at 0 after this many
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers from `address`, holding `regs`."""

    fc: int
    address: int
    count: int
    regs: tuple[Reg, ...]

    @property
    def optional(self) -> bool:
        return self.regs[0].optional

    def __str__(self) -> str:
        return f"registers 0x{self.address:04X}..0x{self.address + self.count - 1:04X} ({', '.join(reg.name for reg in self.regs)})"


@dataclass(frozen=True, slots=True)
class Write:
    """One request to write: these words from `address` on, whole or not at all."""

    address: int
    words: tuple[int, ...]
    what: str

    @property
    def fc(self) -> int:
        """Write multiple registers: the one that every SunSpec device knows."""
        return 16

    @property
    def count(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        return f"writing registers 0x{self.address:04X}..0x{self.address + self.count - 1:04X} ({self.what})"


def plan(map_: Map, rate: Rate) -> tuple[Block, ...]:
    """The fewest requests that a greedy walk finds for the registers of that rate, within the map's limits."""
    wanted = [reg for reg in map_.regs.values() if rate == "all" or reg.slow == (rate == "slow")]
    blocks: list[list[Reg]] = []
    for reg in sorted(wanted, key=lambda reg: (reg.fc, reg.address)):
        if blocks and _joins(map_, blocks[-1], reg):
            blocks[-1].append(reg)
        else:
            blocks.append([reg])
    return tuple(Block(regs[0].fc, regs[0].address, regs[-1].end - regs[0].address, tuple(regs)) for regs in blocks)


def _joins(map_: Map, block: Sequence[Reg], reg: Reg) -> bool:
    first, last = block[0], block[-1]
    if first.fc != reg.fc or first.alone or reg.alone:
        return False
    return reg.address - last.end <= map_.max_gap and reg.end - first.address <= map_.max_regs


def readable(map_: Map, fc: int) -> list[int]:
    """Addresses, rising, that some request of the planner reads: the registers and the unused ones between them."""
    blocks = [block for rate in _RATES for block in plan(map_, rate) if block.fc == fc]
    return sorted({address for block in blocks for address in range(block.address, block.address + block.count)})


def decode(reg: Reg, words: Words, word_order: Order) -> Number | Fraction | None:
    """The exact value, or None where the meter says "not available" (its own pattern, NaN or infinity).

    A value without scale stays the int or float that it is, as exact as a fraction and ten times cheaper: the watts of most meters.
    """
    raw = struct.pack(f">{len(words)}H", *(words if word_order == "big" else reversed(words)))
    if reg.missing and int.from_bytes(raw, "big") in reg.missing:
        return None
    number: int | float = struct.unpack(">" + FORMATS[reg.kind], raw)[0]
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number if reg.scale == 1 else Fraction(number) * reg.scale


def encode(reg: Reg, value: Number | Fraction, word_order: Order) -> tuple[int, ...]:
    """The words a meter holding `value` would send. Raises ValueError when the register cannot hold it."""
    raw = Fraction(value) / reg.scale
    try:
        packed = struct.pack(">" + FORMATS[reg.kind], float(raw) if reg.kind[0] == "f" else round(raw))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{reg.name} = {value} does not fit its register of type {reg.kind}") from error
    words = struct.unpack(f">{len(packed) // 2}H", packed)
    return words if word_order == "big" else words[::-1]


def rounded(name: str, value: Number | Fraction) -> Number:
    """Half to even, once: whole watts, var, va and watt-hours as int; the rest to DIGITS decimals."""
    digits = DIGITS[name]
    if not digits:
        return round(value)
    return round(value, digits) if isinstance(value, float) else float(round(Fraction(value), digits))


def measure(map_: Map, raw: Mapping[str, Words]) -> Reading:
    """The reading that these words make: "suspect" with a reason when a value is implausible. Needs no particular register."""
    exact = _exact(map_, raw, map_.word_order)
    why = [*_wrong_device(map_, exact), *_out_of_range(map_, raw, exact), *_wrong_sums(map_, exact)]
    quality: Quality = "suspect" if why else "good"
    return Reading(quality, "; ".join(why), {name: rounded(name, value) for name, value in exact.items() if name in DIGITS})


def words_of(map_: Map, values: Mapping[str, Number]) -> dict[str, tuple[int, ...]]:
    """The words of every register of a meter that shows `values`: `measure` the other way round.

    A meter without direction shows sizes. Raises KeyError for a quantity that is not in `values`, ValueError when one does not fit.
    """
    known = dict(values)
    if not map_.directional:
        known |= {name: abs(value) for name, value in known.items() if signed(name)}
    for name, terms in map_.derived.items():
        left = known[name] - sum(sign * known[part] for sign, part in terms if part in known)
        for sign, part in terms:
            if part not in known:
                known[part] = max(sign * left, 0)
                left -= sign * known[part]
    known |= {name: min(reg.one_of) for name, reg in map_.regs.items() if reg.one_of}
    return {name: encode(reg, known[name], map_.word_order) for name, reg in map_.regs.items()}


def proofs(map_: Map) -> list[str]:
    """The slow quantities and registers that must once have been read well before the watts can be believed."""
    told = [name for name, reg in map_.regs.items() if reg.one_of and not reg.optional]
    return [name for name in (*told, *map_.ranges) if any(map_.regs[part].slow for part in _parts(map_, name))]


def _parts(map_: Map, name: str) -> list[str]:
    """The registers that a quantity is made of."""
    return [part for _, part in map_.derived.get(name, ((1, name),))]


def _exact(map_: Map, raw: Mapping[str, Words], order: Order) -> dict[str, Number | Fraction]:
    exact: dict[str, Number | Fraction] = {}
    for name, words in raw.items():
        value = decode(map_.regs[name], words, order)
        if value is not None:
            exact[name] = value
    for name, terms in map_.derived.items():
        if all(part in exact for _, part in terms):
            exact[name] = sum((sign * Fraction(exact[part]) for sign, part in terms), Fraction(0))
    return exact


def _model(map_: Map) -> str:
    others = f" (and not {' or '.join(map_.alike)})" if map_.alike else ""
    return f"{map_.id} the right model{others}"


def _wrong_device(map_: Map, exact: Mapping[str, Number | Fraction]) -> list[str]:
    return [
        f"{name} (register 0x{reg.address:04X}) reads {exact[name]}, not {' or '.join(map(str, sorted(reg.one_of)))}; "
        + (reg.say or f"is {_model(map_)}?")
        for name, reg in map_.regs.items()
        if reg.one_of and name in exact and exact[name] not in reg.one_of
    ]


def _out_of_range(map_: Map, raw: Mapping[str, Words], exact: Mapping[str, Number | Fraction]) -> list[str]:
    why = []
    for name, (low, high) in map_.ranges.items():
        if name not in exact or low <= exact[name] <= high:
            continue
        other: Order = "little" if map_.word_order == "big" else "big"
        turned = _exact(map_, raw, other).get(name)
        if turned is not None and low <= turned <= high:
            way_out = f'this meter sends its words the other way round: try word_order = "{other}" in a copy of its map'
        else:
            way_out = f"is {_model(map_)}, and is the phase connected?"
        why.append(f"{name} reads {float(exact[name]):.6g}, outside {float(low):g} to {float(high):g}; {way_out}")
    return why


def _wrong_sums(map_: Map, exact: Mapping[str, Number | Fraction]) -> list[str]:
    why = []
    for name, parts in map_.sums.items():
        if name not in exact or any(part not in exact for part in parts):
            continue
        total, made = float(exact[name]), sum(float(exact[part]) for part in parts)
        if abs(total - made) > max(float(map_.sum_abs), float(map_.sum_rel) * abs(total)):
            parts_make = f"{' + '.join(parts)} make {made:.6g}"
            why.append(f"{name} reads {total:.6g}, but {parts_make}; is {_model(map_)}?")
    return why
