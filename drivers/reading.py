"""A reading: what a meter said, in whole watts and with its quality; and what a node's readings add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Quality = Literal["good", "late", "suspect", "absent"]
Role = Literal["grid", "load", "pv", "battery", "generator"]
Number = int | float
Lamp = Literal["off", "on", "slow", "fast"]  # what a status lamp shows; the last two blink

# Canonical names in display order. The unit is in the name: w watts, var, va, v volts, a amps, hz, pf −1…1, wh watt-hours.
QUANTITIES: tuple[str, ...] = (
    "w",
    "w_l1",
    "w_l2",
    "w_l3",
    "var",
    "va",
    "v_l1",
    "v_l2",
    "v_l3",
    "a_l1",
    "a_l2",
    "a_l3",
    "hz",
    "pf",
    "import_wh",
    "export_wh",
    "soc_pct",
    "temp_c",
)

# Decimals kept when a reading is made; 0 means an int. Hertz keeps millihertz because droop control acts on them.
DIGITS: Mapping[str, int] = {
    name: next(
        (
            digits
            for start, digits in (("v_", 1), ("a_", 3), ("hz", 3), ("pf", 3), ("soc", 1), ("temp", 1))
            if name.startswith(start)
        ),
        0,
    )
    for name in QUANTITIES
}

HERTZ = (40.0, 70.0)  # no grid that feeds a meter runs outside

_WORST: tuple[Quality, ...] = ("good", "late", "suspect", "absent")


class MeterError(Exception):
    """This read failed; the next may not."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a meter. `w` is + in the meter's import direction; a quantity the meter called unavailable is missing."""

    quality: Quality
    why: str  # "" when good
    values: Mapping[str, Number]


@dataclass(frozen=True, slots=True)
class Account:
    """What a node makes and uses, whole watts, both >= 0; None when that is not known. produced_w - consumed_w is its net."""

    produced_w: int | None
    consumed_w: int | None
    quality: Quality
    why: str  # "" when good and nothing is left unexplained


def absent(why: str) -> Reading:
    """No answer: counts as unknown, never as 0."""
    return Reading("absent", why, {})


def worst(qualities: Sequence[Quality]) -> Quality:
    """The least trustworthy of them; "good" of none."""
    return max(qualities, key=_WORST.index, default="good")


def flipped(reading: Reading) -> Reading:
    """The same reading of a meter wired the other way round.

    Watts and var change sign and the two counters change places. pf keeps its sign: on the meters known here
    it tells capacitive from inductive, not the direction (Eastron SDM630 protocol, note 1). Amps and va are magnitudes.
    """
    swap = {"import_wh": "export_wh", "export_wh": "import_wh"}
    values = {swap.get(name, name): -value if signed(name) else value for name, value in reading.values.items()}
    return Reading(reading.quality, reading.why, values)


def signed(name: str) -> bool:
    """The quantity has a direction: it changes sign when the meter is turned."""
    return name in ("w", "var") or name.startswith("w_l")


def account(readings: Sequence[tuple[str, Role, Reading]]) -> Account:
    """Add up a node's meters, given as (name, role, reading).

    Sign of `w` by role: grid + takes from the grid; load + uses; battery + charges (used), - discharges (produced);
    pv and generator - produces, + is their own standby draw (used). `flipped` turns a meter wired the other way.

    With a grid meter the net is exactly -grid_w, and load meters are informational: they neither count nor spoil the
    account when they fail. Without one the net is -(the sum of all w). Meters of one role add.
    One reading that counts but is not good, or has no watts, makes the whole account unknown: a part of a sum is not a sum.
    """
    if not readings:
        return Account(None, None, "absent", "no meter configured")
    grid = [reading for _, role, reading in readings if role == "grid"]
    counted = [entry for entry in readings if entry[1] != "load" or not grid]
    bad = [(name, *_trouble(reading)) for name, _, reading in counted if reading.quality != "good" or "w" not in reading.values]
    if bad:
        return Account(
            None, None, worst([quality for _, quality, _ in bad]), "; ".join(f"meter {name!r}: {why}" for name, _, why in bad)
        )

    watts = [(name, role, int(reading.values["w"])) for name, role, reading in counted]
    produced_w = sum(-w for _, role, w in watts if role != "grid" and w < 0)
    if not grid:
        backwards = [
            f"load meter {name!r} reads {w} W: is it wired the other way? then set flip = true"
            for name, role, w in watts
            if role == "load" and w < 0
        ]
        return Account(produced_w, sum(w for _, _, w in watts if w > 0), "good", "; ".join(backwards))
    grid_w = sum(w for _, role, w in watts if role == "grid")
    consumed_w = produced_w + grid_w
    if consumed_w >= 0:
        return Account(produced_w, consumed_w, "good", "")
    return Account(-grid_w, 0, "good", f"{-consumed_w} W flow out that no pv, battery or generator meter explains")


def _trouble(reading: Reading) -> tuple[Quality, str]:
    if reading.quality == "good":
        return "absent", "gave no watts"
    return reading.quality, reading.why
