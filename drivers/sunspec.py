"""SunSpec: find a device's models, ask for them so that no answer can be of another one, and make the reading."""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from drivers.reading import DIGITS, HERTZ, QUANTITIES, MeterError, Number, Quality, Reading, Role, absent
from drivers.registers import MOST_REGISTERS, Block, Kind, Reg, Words, decode, rounded
from drivers.sunspec_models import LAYOUTS, MODULES_ID, QUIRKS, Layout, Point, Quirk, Which

T = TypeVar("T")
# What to ask for; what was answered, None for a refusal (exception 2 or 3); what came of it. Raises MeterError.
Steps = Generator[Block, Words | None, T]

BASES = (40000, 50000, 0)  # SunSpec device information model specification V1.1, 5.1
MARKER = (0x5375, 0x6E53)  # "SunS"
COMMON, END = 1, 0xFFFF
NAME = (2, 18)  # Mn of the common model, 16 registers
DC_SOURCES = (MODULES_ID, 714)  # what a device with several of them tells of each
MOST_MODELS = 64
SIZES = (MOST_REGISTERS, 50, 20)  # registers of one request; the next when the device refuses
TRIES = 3  # of a model in pieces whose scale factors change meanwhile
SF_NONE, SF_MOST = -0x8000, 10
LONGEST = 500  # L of a model that we read; what is beyond is not L
SOUND: Mapping[str, tuple[int, int]] = {  # what no installation exceeds; a device at rest says 0 V and 0 Hz
    **{name: (-(10**8), 10**8) for name in ("w", "w_l1", "w_l2", "w_l3", "va", "var", "a_l1", "a_l2", "a_l3")},
    **{name: (-(10**15), 10**15) for name in ("import_wh", "export_wh")},
    "temp_c": (-100, 1000),
    "hz": (0, 70),
    "soc_pct": (0, 101),
    **{f"v_l{i}": (0, 1000) for i in (1, 2, 3)},
}

_BITS: Mapping[str, tuple[Kind, frozenset[int]]] = {  # how a kind is packed and which patterns say "not implemented"
    "i16": ("i16", frozenset({0x8000})),
    "u16": ("u16", frozenset({0xFFFF})),
    "u32": ("u32", frozenset({0xFFFF_FFFF})),
    "u64": ("u64", frozenset({0xFFFF_FFFF_FFFF_FFFF})),
    "f32": ("f32", frozenset()),  # NaN, which decode knows
    "acc32": ("u32", frozenset({0, 0xFFFF_FFFF})),
}

_WHICH: Mapping[Role, Which] = {
    "grid": "meter",
    "load": "meter",
    "pv": "inverter",
    "generator": "inverter",
    "battery": "storage",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model as found in a device; `makers` are the names in the common models before it, the first device's first."""

    id: int
    at: int  # address of its ID register
    length: int  # L: the device's own word
    makers: tuple[str, ...]


def which_for(role: Role) -> Which:
    """What a meter of that role is in a device that is several things at once."""
    return _WHICH[role]


def walk() -> Steps[tuple[Model, ...]]:
    """Every model of the device in the order of its chain. A chain that ends in a refusal ends there."""
    base = yield from _base()
    models: list[Model] = []
    makers: tuple[str, ...] = ()
    at = base + len(MARKER)
    while len(models) < MOST_MODELS:
        header = yield _block(at, 2, "SunSpec model header")
        if header is None or header[0] == END:
            return tuple(models)
        id_, length = header
        if not models and id_ != COMMON:
            raise MeterError(f"its SunSpec chain begins with model {id_}, not with the common model 1; is its firmware sound?")
        if id_ == COMMON:
            common = yield _block(at, NAME[1], "SunSpec common model")
            if common is None or tuple(common[:2]) != tuple(header):  # without the maker's name the sign is a guess
                raise MeterError(f"its SunSpec common model at {at} cannot be read; is its firmware sound?")
            makers = (*makers, _text(common[NAME[0] :]))
        models.append(Model(id_, at, length, makers))
        at += 2 + length
        if at + 2 > 0x10000:
            break
    raise MeterError(f"its SunSpec chain of models has no end (at {at} after {len(models)} models); is its firmware sound?")


def _base() -> Steps[int]:
    for base in BASES:
        words = yield _block(base, len(MARKER), "SunSpec marker")
        if words is not None and tuple(words) == MARKER:
            return base
    places = ", ".join(str(base) for base in BASES)
    raise MeterError(f"no SunSpec marker at {places}; is SunSpec switched on in its settings, and the unit number right?")


def _text(words: Words) -> str:
    return struct.pack(f">{len(words)}H", *words).decode("ascii", "replace").strip("\0 ")


def find(which: Which | None, whole: bool = False) -> Steps[tuple[Model, ...]]:
    """The models to read: of one kind the first in the chain; a Fronius battery has its watts in a second model."""
    models = yield from walk()
    return choose(models, which, whole)


def choose(models: Sequence[Model], which: Which | None, whole: bool = False) -> tuple[Model, ...]:
    """Raises MeterError when there is no such model, or with None when there are several kinds to choose of.

    `whole`: somebody says that the device is nothing but what is asked for. Then the watts of its inverter are the battery's,
    unless it tells of several sources of direct current: of a battery beside solar modules they are not.
    """
    usable = [model for model in models if _usable(model)]
    firsts: dict[Which, Model] = {}
    for model in usable:
        if model.id != MODULES_ID:
            firsts.setdefault(LAYOUTS[model.id].which, model)
    if which is None:
        if len(firsts) > 1:
            raise MeterError(f"it is {' and '.join(firsts)} at once ({_listed(models)}); say which of them to read")
        which = next(iter(firsts), "meter")
    if which not in firsts:
        raise MeterError(f"it has no SunSpec {which}; {_listed(models)}")
    chosen = firsts[which]
    modules = [model for model in usable if model.id == MODULES_ID and which == "storage"]
    if whole and which == "storage" and "inverter" in firsts and not any(model.id in DC_SOURCES for model in models):
        return (chosen, firsts["inverter"])
    return (chosen, *modules[:1])


def _usable(model: Model) -> bool:
    """Known, with its first quantity in it, and of a length that is no accident."""
    layout = LAYOUTS.get(model.id)
    if layout is None or (model.id == MODULES_ID and not any(quirk.battery_in_160 for quirk in _quirks(model))):
        return False
    return layout.points[:1] == points(model)[:1] and model.length <= LONGEST


def _listed(models: Sequence[Model]) -> str:
    makers = sorted({maker for model in models for maker in model.makers})
    ids = ", ".join(str(model.id) for model in models)
    return f"maker {' and '.join(repr(maker) for maker in makers) or 'unknown'}, models found: {ids or 'none'}"


def _quirks(model: Model) -> list[Quirk]:
    return [quirk for quirk in QUIRKS if any(maker.lower().startswith(quirk.maker) for maker in model.makers)]


def points(model: Model) -> tuple[Point, ...]:
    """The quantities that lie, with their scale factors, in the device's own length; of a sum all or none."""
    layout: Layout = LAYOUTS[model.id]
    end = 2 + model.length
    outside = {p.name for p in layout.points if p.at + register(model, p).count > end or (p.sf is not None and p.sf >= end)}
    return tuple(point for point in layout.points if point.name not in outside)


def register(model: Model, point: Point) -> Reg:
    """The point as a register at its offset in the model."""
    kind, missing = _BITS[point.kind]
    if point.kind == "acc32" and any(quirk.signed_acc32 for quirk in _quirks(model)):
        kind = "i32"
    return Reg(point.name, 3, point.at, kind, missing=missing)


def factor(model: Model, point: Point) -> Fraction:
    """What the scaled value is to be multiplied with to follow our sign."""
    exports = LAYOUTS[model.id].which == "meter" and any(quirk.meter_exports for quirk in _quirks(model))
    return -point.factor if exports and point.name.partition("_")[0] in ("w", "var") else point.factor


def fetch(model: Model, most: int) -> Steps[tuple[Words, int]]:
    """The model's words from its ID register as far as we need them, and the registers of a request that the device took.

    ID and L are read with the values, and so are the scale factors: in one request or, where a device wants
    smaller ones, before and after the values. Raises MeterError when they are not those of this model any more.
    """
    while True:
        pieces = _pieces(model, most)
        for _ in range(TRIES):
            words = yield from _looked(model, pieces)
            if words is None:
                break
            if words:
                return words, most
        else:
            raise MeterError(f"model {model.id} at {model.at}: its scale factors change while it is read")
        smaller = [size for size in SIZES if size < min(most, max(count for _, count in pieces))]
        if not smaller:
            raise MeterError(f"model {model.id} at {model.at}: refused; its models are looked for again")
        most = smaller[0]


def _looked(model: Model, pieces: Sequence[tuple[int, int]]) -> Steps[Words | None]:
    """All words; None when refused; none at all when a scale factor changed between two requests."""
    marks = {0, 1, *(point.sf for point in points(model) if point.sf is not None)}
    guards = [piece for piece in pieces if marks & set(range(piece[0], sum(piece)))] if len(pieces) > 1 else []
    words = [0] * sum(pieces[-1])
    seen: dict[int, int] = {}
    for start, count in (*guards, *pieces):
        answer = yield _block(model.at + start, count, f"SunSpec model {model.id}")
        if answer is None:
            return None
        words[start : start + count] = answer
        if start == 0 and tuple(answer[:2]) != (model.id, model.length):
            raise MeterError(
                f"model {model.id} of length {model.length} is not at {model.at} any more, there is {answer[0]} of {answer[1]}; "
                "its models are looked for again"
            )
        for mark in marks & set(range(start, start + count)):
            if seen.setdefault(mark, answer[mark - start]) != answer[mark - start]:
                return ()
    for start, count in guards:
        answer = yield _block(model.at + start, count, f"SunSpec model {model.id}")
        if answer is None:
            return None
        if any(answer[mark - start] != seen[mark] for mark in marks & set(range(start, start + count))):
            return ()
    return words


def _pieces(model: Model, most: int) -> list[tuple[int, int]]:
    """(start, count) of the requests for a model; no value is cut in two."""
    atoms = {(0, 2)}
    for point in points(model):
        atoms.add((point.at, point.at + register(model, point).count))
        if point.sf is not None:
            atoms.add((point.sf, point.sf + 1))
    pieces: list[tuple[int, int]] = []
    for start, end in sorted(atoms):
        if pieces and end - pieces[-1][0] <= most:
            pieces[-1] = (pieces[-1][0], end - pieces[-1][0])
        else:
            pieces.append((start, end - start))
    return pieces


def measure(looked: Sequence[tuple[Model, Words]]) -> Reading:
    """The reading that these models' words make, in our sign; "suspect" with a reason when a value is impossible."""
    values: dict[str, Number] = {}
    why: list[str] = []
    for model, words in looked:
        exact: dict[str, Fraction | None] = {}
        for point in points(model):
            value, told = _value(model, point, words)
            before = exact.get(point.name, Fraction(0))
            exact[point.name] = None if value is None or before is None else before + value
            why += [told] if told else []
        values |= {name: rounded(name, value) for name, value in exact.items() if value is not None}
    if abs(values.get("pf", 0)) > 1:
        del values["pf"]  # makers disagree on percent, and nothing depends on it
    for name, (low, high) in SOUND.items():
        if name in values and not low <= values[name] <= high:
            why.append(f"{name} reads {values[name]:.6g}, outside {low} to {high}")
    names = " and ".join(str(model.id) for model, _ in looked)
    quality: Quality = "suspect" if why else "good"
    if not values and not why:
        return absent(f"model {names}: the device marks every value as not available")
    reason = f"model {names}: {'; '.join(why)}" if why else ""
    return Reading(quality, reason, {name: values[name] for name in QUANTITIES if name in values})


def frequency(model: Model, words: Words) -> Steps[float | None] | None:
    """The frequency alone, by the scale factor in the model's `words`; None for a model without one."""
    point = next((point for point in points(model) if point.name == "hz"), None)
    return None if point is None else _hertz(model, point, words)


def _hertz(model: Model, point: Point, words: Words) -> Steps[float | None]:
    count = register(model, point).count
    answer = yield _block(model.at + point.at, count, "SunSpec frequency")
    if answer is None:
        raise MeterError(f"model {model.id} at {model.at}: refused; its models are looked for again")
    words = [*words[: point.at], *answer, *words[point.at + count :]]
    hz = _value(model, point, words)[0]
    return None if hz is None or not HERTZ[0] <= hz <= HERTZ[1] else float(round(hz, DIGITS["hz"]))


def _value(model: Model, point: Point, words: Words) -> tuple[Fraction | None, str]:
    reg = register(model, point)
    raw = decode(reg, words[point.at : reg.end], "big")
    power = 0
    if point.sf is not None:
        (power,) = struct.unpack(">h", struct.pack(">H", words[point.sf]))
    if raw is None or power == SF_NONE:
        return None, ""
    if abs(power) > SF_MOST:
        return None, f"the scale factor of {point.name} is {power}, outside -{SF_MOST} to {SF_MOST}"
    value = Fraction(raw) * factor(model, point) * Fraction(10) ** power
    return (abs(value) if point.name == "va" or point.name.startswith("a_") else value), ""


def _block(address: int, count: int, what: str) -> Block:
    return Block(3, address, count, (Reg(what, 3, address, "u16"),))
