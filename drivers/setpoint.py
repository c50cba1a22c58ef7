"""Set-points: what to write into a SunSpec battery for some watts, and whether what it then holds is that."""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar

from drivers.reading import MeterError
from drivers.registers import Block, Kind, Reg, Words, Write, decode, encode
from drivers.sunspec import SF_MOST, SF_NONE, Model, walk

T = TypeVar("T")
Control = Literal["sunspec-124", "sunspec-704"]
# What to ask for or to write; what was answered (None: a refused read, and after each write). Raises MeterError.
Orders = Generator[Block | Write, Words | None, T]
Held = Mapping[int, int]  # offset from the ID register -> word; those that the device does not have are missing

REVERT_MOST_S = 65_534  # what 16 bits of model 124 hold
SMALL = 20  # registers of one request where a device refuses a large one
TOLERANCE = 100  # it may hold the hundredth part of its power beside what was written: some keep whole percents

# Offsets: github.com/sunspec/models, json/model_120, 124, 702, 704.
W_CHA_MAX, STOR_CTL, OUT_RATE, IN_RATE, RATE_REVERT = 2, 5, 12, 13, 15  # 124; the two rates share the scale factor 25
ENA, MOD, W_SET, ENA_REVERT, SET_REVERT = 22, 23, 24, 30, 31  # 704; watts have the scale factor 55
BOTH, WATTS = 3, 1  # StorCtl_Mod: charging and discharging are limited; WSetMod: in watts, not in percent


@dataclass(frozen=True, slots=True)
class Place:
    """A number in a model: offset, how it is packed, offset of its scale factor."""

    at: int
    kind: Kind
    sf: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one kind of control: its model, and the model that has the ratings."""

    control: int
    end: int  # registers of the control model that matter
    spots: tuple[tuple[int, int], ...]  # (start, count) of them, for small requests; the first has ID and L
    ratings: int
    rated_end: int
    charges: tuple[Place, ...]  # the smallest that the device tells counts
    discharges: tuple[Place, ...]


FACTS: Mapping[Control, Facts] = {
    "sunspec-124": Facts(
        124,
        26,
        ((0, 6), (OUT_RATE, 4), (18, 8)),
        120,
        27,
        (Place(23, "u16", 24),),  # MaxChaRte
        (Place(25, "u16", 26), Place(3, "u16", 4)),  # MaxDisChaRte, WRtg
    ),
    "sunspec-704": Facts(
        704,
        56,
        ((0, 2), (ENA, 11), (55, 1)),
        702,
        46,
        tuple(Place(at, "u16", 45) for at in (10, 34)),  # WChaRteMaxRtg, WChaRteMax
        tuple(Place(at, "u16", 45) for at in (11, 35, 2, 26)),  # WDisChaRteMaxRtg, WDisChaRteMax, WMaxRtg, WMax
    ),
}
_MISSING: Mapping[Kind, frozenset[int]] = {
    "u16": frozenset({0xFFFF}),
    "i16": frozenset({0x8000}),
    "u32": frozenset({0xFFFF_FFFF}),
    "i32": frozenset({0x8000_0000}),
}


@dataclass(frozen=True, slots=True)
class Plant:
    """What was found of a battery: where its controls are, and what it can take and give (None: it does not say)."""

    control: Control
    model: Model
    charge_w: int | None
    discharge_w: int | None


@dataclass(frozen=True, slots=True)
class Told:
    """A set-point as the registers hold it: is it in force, its watts (+ = discharge), and its reversion timer."""

    on: bool
    watts: int
    revert_s: int


def find(control: Control) -> Orders[Plant]:
    """Walk the device's models for the controls and the ratings. Raises MeterError when it has no such controls."""
    models = yield from walk()
    facts = FACTS[control]
    model = next((model for model in models if model.id == facts.control), None)
    if model is None:
        listed = ", ".join(str(model.id) for model in models)
        raise MeterError(f"it has no SunSpec model {facts.control}, so that no set-point can be written; models found: {listed}")
    if 2 + model.length < facts.end:
        raise MeterError(f"its model {model.id} of length {model.length} is too short for set-points")
    rated = next((model for model in models if model.id == facts.ratings), None)
    words: Held = {}
    if rated is not None:
        words = yield from _looked(rated, ((0, min(facts.rated_end, 2 + rated.length)),))
    discharge_w = _least(words, facts.discharges)
    return Plant(control, model, _least(words, facts.charges) or discharge_w, discharge_w)


def look(plant: Plant) -> Orders[Held]:
    """The control model's registers, with ID and L, which prove that it is still there. Raises MeterError."""
    facts = FACTS[plant.control]
    return (yield from _looked(plant.model, facts.spots))


def _looked(model: Model, spots: Sequence[tuple[int, int]]) -> Orders[Held]:
    end = sum(spots[-1])
    answer = yield _block(model, 0, end)
    held = {} if answer is None else dict(enumerate(answer))
    if answer is None:
        for start, count in spots:
            for at in range(start, start + count, SMALL):
                size = min(SMALL, start + count - at)
                answer = yield _block(model, at, size)
                if answer is None:
                    raise MeterError(f"model {model.id} at {model.at}: refused; its models are looked for again")
                held |= dict(enumerate(answer, at))
    if (held[0], held[1]) != (model.id, model.length):
        what = f"model {model.id} of length {model.length} is not at {model.at} any more"
        raise MeterError(f"{what}; its models are looked for again")
    return held


def _block(model: Model, start: int, count: int) -> Block:
    return Block(3, model.at + start, count, (Reg(f"SunSpec model {model.id}", 3, model.at + start, "u16"),))


def value(held: Held, place: Place) -> Fraction | None:
    """The number there; None where the device marks it, or its scale factor, as not implemented, or does not have it."""
    reg = Reg("", 3, place.at, place.kind, missing=_MISSING[place.kind])
    words = [held.get(at, -1) for at in range(place.at, reg.end)]
    raw = None if -1 in words else decode(reg, words, "big")
    power = 0 if place.sf is None else _power(held, place.sf)
    return None if raw is None or power is None else Fraction(raw) * Fraction(10) ** power


def _power(held: Held, at: int) -> int | None:
    (power,) = struct.unpack(">h", struct.pack(">H", held.get(at, SF_NONE & 0xFFFF)))
    return power if abs(power) <= SF_MOST else None


def _least(held: Held, places: Sequence[Place]) -> int | None:
    told = [int(number) for place in places if (number := value(held, place))]  # a rating of 0 is none
    return min(told, default=None)


def limits(plant: Plant, held: Held, power_w: int) -> tuple[int, int]:
    """(charge, discharge) in watts: what the user allows, or the device's own rating if that is less. Raises MeterError."""
    own = _base(held) if plant.control == "sunspec-124" else None
    charge = [limit for limit in (power_w, plant.charge_w, own) if limit is not None]
    discharge = [limit for limit in (power_w, plant.discharge_w, own) if limit is not None]
    return min(charge), min(discharge)


def _base(held: Held) -> int:
    """What 100 % of a rate are. Fronius, 42,0410,2649, model 124: both rates are percents of WChaMax."""
    base = value(held, Place(W_CHA_MAX, "u16", 18))
    if not base:
        raise MeterError("its model 124 does not say what 100 % are (WChaMax); is a battery connected?")
    return int(base)


def order(plant: Plant, held: Held, watts: int, revert_s: int) -> tuple[Told, tuple[Write, ...]]:
    """What is to be in force (rounded towards 0 to the device's steps), and the writes that make it so, the enabling one last.

    +watts discharge. The timer comes first: nothing is ever in force without it. Raises MeterError for a device that
    lacks one of the registers, or whose scale factors leave no room.
    """
    revert_s = max(1, min(revert_s, REVERT_MOST_S))
    stages: tuple[dict[int, tuple[int, ...]], ...]
    if plant.control == "sunspec-124":
        base, step = _base(held), _step(held, 25, "InOutWRte") / 100
        raw = int(Fraction(watts, base) / step)
        _need(held, Place(RATE_REVERT, "u16"), "reversion timer (InOutWRte_RvrtTms)")
        _need(held, Place(OUT_RATE, "i16"), "rate of discharging (OutWRte)")
        _need(held, Place(IN_RATE, "i16"), "rate of charging (InWRte)")
        # The window of power between -OutWRte and InWRte of charging is of no width: that is the set-point. Same source.
        stages = {RATE_REVERT: (revert_s,)}, {OUT_RATE: (*_i16(raw), *_i16(-raw))}, {STOR_CTL: (BOTH,)}
        told = Told(True, round(raw * step * base), revert_s)
    else:
        step = _step(held, 55, "WSet")
        raw = int(watts / step)
        _need(held, Place(SET_REVERT, "u32"), "reversion timer (WSetRvrtTms)")
        _need(held, Place(W_SET, "i32"), "set-point in watts (WSet)")
        after = {ENA_REVERT: (0,)} if value(held, Place(ENA_REVERT, "u16")) is not None else {}  # then nothing is in force
        stages = after | {SET_REVERT: _i32(revert_s)}, {MOD: (WATTS, *_i32(raw))}, {ENA: (1,)}
        told = Told(True, round(raw * step), revert_s)
    return told, tuple(write for stage in stages for write in _writes(plant.model, stage))


def release(plant: Plant) -> Write:
    """The write after which no set-point is in force."""
    at = STOR_CTL if plant.control == "sunspec-124" else ENA
    return Write(plant.model.at + at, (0,), f"SunSpec model {plant.model.id}, control off")


def told(plant: Plant, held: Held) -> Told:
    """The set-point that the registers hold. Raises MeterError when they hold none that can be."""
    if plant.control == "sunspec-124":
        step = _step(held, 25, "InOutWRte") * _base(held) / 100
        out, into = value(held, Place(OUT_RATE, "i16")), value(held, Place(IN_RATE, "i16"))
        on, revert = held[STOR_CTL] == BOTH and out is not None and into == -out, value(held, Place(RATE_REVERT, "u16"))
        return Told(on, round((out or 0) * step), int(revert or 0))
    watts, revert = value(held, Place(W_SET, "i32", 55)), value(held, Place(SET_REVERT, "u32"))
    on = (held[ENA], held[MOD]) == (1, WATTS) and held[ENA_REVERT] in (0, 0xFFFF)
    return Told(on and watts is not None, round(watts or 0), int(revert or 0))


def disagreement(asked: Told, held: Told, most_w: int) -> str:
    """Why what the device holds is not what was asked of it, "" if it is. `most_w`: the battery's power."""
    if not held.on:
        return f"{asked.watts} W were written, and the device holds no set-point"
    if abs(held.watts - asked.watts) > max(1, most_w // TOLERANCE):
        return f"{asked.watts} W were written, and the device holds {held.watts} W"
    if not 0 < held.revert_s <= asked.revert_s:
        return f"a reversion timer of {asked.revert_s} s was written, and the device holds {held.revert_s} s"
    return ""


def _need(held: Held, place: Place, what: str) -> None:
    if value(held, place) is None:
        raise MeterError(f"it has no {what}: it is left alone")


def _step(held: Held, at: int, what: str) -> Fraction:
    power = _power(held, at)
    if power is None:
        raise MeterError(f"it does not say the scale factor of {what}: it is left alone")
    return Fraction(10) ** power


def _i16(number: int) -> tuple[int, ...]:
    return _packed(number, "i16")


def _i32(number: int) -> tuple[int, ...]:
    return _packed(number, "i32")


def _packed(number: int, kind: Kind) -> tuple[int, ...]:
    try:
        return encode(Reg("a set-point", 3, 0, kind), number, "big")
    except ValueError as error:
        raise MeterError(f"its scale factor leaves no room: {error}") from error


def _writes(model: Model, stage: Mapping[int, tuple[int, ...]]) -> list[Write]:
    """One for each run of registers without a hole: what is not ours is not written."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for at, words in sorted(stage.items()):
        if runs and runs[-1][0] + len(runs[-1][1]) == at:
            runs[-1] = (runs[-1][0], runs[-1][1] + words)
        else:
            runs.append((at, words))
    return [Write(model.at + at, words, f"SunSpec model {model.id}, set-point") for at, words in runs]
