"""The registers of a SunSpec device, made from its models and the values that they are to show."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from drivers.reading import Number
from drivers.registers import encode
from drivers.sunspec import COMMON, END, MARKER, NAME, Model, factor, points, register
from drivers.sunspec_models import LAYOUTS, Point

COMMON_LENGTH = 66
SCALES: Mapping[str, int] = {"v": -1, "a": -2, "hz": -2, "pf": -2, "soc": -1, "temp": -1}  # the power of ten behind the value


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a device. Values in our units and sign, as a reading has them; those left out are "not implemented".

    Any model can be given by its `words` alone, which overwrite by offset from the ID register.
    """

    id: int
    values: Mapping[str, Number | Fraction] = field(default_factory=dict)
    scales: Mapping[str, int] = field(default_factory=dict)  # quantity -> power of ten; others as in SCALES, else 0
    length: int | None = None  # L; default: as published
    maker: str = ""  # of a common model
    words: Mapping[int, int] = field(default_factory=dict)


def common(maker: str) -> Part:
    """The common model, with which a device's chain, and that of each meter within it, begins."""
    return Part(COMMON, length=COMMON_LENGTH, maker=maker)


def image(parts: Sequence[Part], base: int = 40000) -> dict[int, int]:
    """Address -> word of all holding registers, from the marker to the end of the chain.

    Raises ValueError for a value that its register cannot hold, or that the model has no place for.
    """
    words = dict(enumerate(MARKER, base))
    at = base + len(MARKER)
    makers: tuple[str, ...] = ()
    for part in parts:
        layout = LAYOUTS.get(part.id)
        length = part.length if part.length is not None else layout.length if layout else max(part.words, default=1) - 1
        if part.id == COMMON:
            makers = (*makers, part.maker)
        model = Model(part.id, at, length, makers)
        words |= {at + i: word for i, word in enumerate(_words(model, part))}
        at += 2 + length
    return words | {at: END, at + 1: 0}


def _words(model: Model, part: Part) -> list[int]:
    words = [model.id, model.length, *[0] * model.length]
    if model.id == COMMON:
        name = part.maker.encode("ascii").ljust(2 * (NAME[1] - NAME[0]), b"\0")
        words[NAME[0] : NAME[1]] = struct.unpack(">16H", name)
    elif model.id in LAYOUTS:
        _fill(words, model, part)
    elif part.values:
        raise ValueError(f"model {part.id} is known by its words alone")
    for offset, word in part.words.items():
        words[offset] = word
    return words


def _fill(words: list[int], model: Model, part: Part) -> None:
    places = points(model)
    homeless = set(part.values) - {point.name for point in places}
    if homeless:
        raise ValueError(f"model {model.id} of length {model.length} has no place for {', '.join(sorted(homeless))}")
    scales: dict[int, int] = {}
    for point in places:
        if point.sf is not None:
            words[point.sf] = 0x8000
    for point in places:
        reg = register(model, point)
        if point.name not in part.values:
            words[point.at : reg.end] = _nothing(point, reg.count)
            continue
        power = 0
        if point.sf is not None:
            power = part.scales.get(point.name, SCALES.get(point.name.partition("_")[0], 0))
            if scales.setdefault(point.sf, power) != power:
                raise ValueError(f"{point.name} shares its scale factor, which is {scales[point.sf]}, not {power}")
            words[point.sf] = power & 0xFFFF
        value = Fraction(part.values[point.name]) / (factor(model, point) * Fraction(10) ** power)
        if sum(point.name == other.name for other in places) > 1:  # one counts what flows in, the other what flows out
            value = max(value, Fraction(0))
        words[point.at : reg.end] = encode(reg, value, "big")


def _nothing(point: Point, count: int) -> list[int]:
    first, rest = {"i16": (0x8000, 0), "f32": (0x7FC0, 0), "acc32": (0, 0)}.get(point.kind, (0xFFFF, 0xFFFF))
    return [first, *[rest] * (count - 1)]
