"""SunSpec models: where each model keeps our quantities, and the quirks of some makers. Data, with sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Which = Literal["meter", "inverter", "storage"]
PointKind = Literal["u16", "i16", "u32", "u64", "f32", "acc32"]


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity in a model: quantity = raw * 10^(scale factor) * factor. Points of one name add up."""

    name: str  # canonical quantity, see reading.QUANTITIES
    at: int  # registers from the model's ID register, which is 0; L is 1
    kind: PointKind
    sf: int | None = None  # register of its scale factor; None: the value is whole as it stands
    factor: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Layout:
    """A model as published; a device's own may be shorter or longer."""

    which: Which
    length: int  # L as published: registers behind L
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Quirk:
    """What a maker does in its own way. `maker` begins Mn of a common model, whatever the case."""

    maker: str
    source: str
    meter_exports: bool = False  # watts and var of its meter models are + when they flow out; its counters are as they should be
    signed_acc32: bool = False  # counters above 2^31 are negative numbers
    battery_in_160: bool = False  # model 160, module 3 = watts that charge, module 4 = watts that discharge


_MINUS, _PERCENT = Fraction(-1), Fraction(1, 100)

# Offsets, types and scale factors: github.com/sunspec/models, json/model_*.json.
# Generators count what they give as +W; here + is what flows in, hence the factor -1 and export_wh for what they made.
_METER = (
    Point("w", 18, "i16", 22),
    *(Point(f"w_l{i}", 18 + i, "i16", 22) for i in (1, 2, 3)),
    Point("va", 23, "i16", 27),
    Point("var", 28, "i16", 32),
    *(Point(f"v_l{i}", 7 + i, "i16", 15) for i in (1, 2, 3)),
    *(Point(f"a_l{i}", 2 + i, "i16", 6) for i in (1, 2, 3)),
    Point("hz", 16, "i16", 17),
    Point("pf", 33, "i16", 37, _PERCENT),
    Point("export_wh", 38, "acc32", 54),
    Point("import_wh", 46, "acc32", 54),
)
_METER_FLOAT = (
    Point("w", 28, "f32"),
    *(Point(f"w_l{i}", 28 + 2 * i, "f32") for i in (1, 2, 3)),
    Point("va", 36, "f32"),
    Point("var", 44, "f32"),
    *(Point(f"v_l{i}", 10 + 2 * i, "f32") for i in (1, 2, 3)),
    *(Point(f"a_l{i}", 2 + 2 * i, "f32") for i in (1, 2, 3)),
    Point("hz", 26, "f32"),
    Point("pf", 52, "f32"),  # unit "PF" in 211 to 214, "Pct" in all the others of this generation
    Point("export_wh", 60, "f32"),
    Point("import_wh", 68, "f32"),
)
_INVERTER = (
    Point("w", 14, "i16", 15, _MINUS),
    Point("va", 18, "i16", 19),
    Point("var", 20, "i16", 21, _MINUS),
    *(Point(f"v_l{i}", 9 + i, "u16", 13) for i in (1, 2, 3)),
    *(Point(f"a_l{i}", 2 + i, "u16", 6) for i in (1, 2, 3)),
    Point("hz", 16, "u16", 17),
    Point("pf", 22, "i16", 23, _PERCENT),
    Point("export_wh", 24, "acc32", 26),
    Point("temp_c", 33, "i16", 37),
)
_INVERTER_FLOAT = (
    Point("w", 22, "f32", None, _MINUS),
    Point("va", 26, "f32"),
    Point("var", 28, "f32", None, _MINUS),
    *(Point(f"v_l{i}", 14 + 2 * i, "f32") for i in (1, 2, 3)),
    *(Point(f"a_l{i}", 2 + 2 * i, "f32") for i in (1, 2, 3)),
    Point("hz", 24, "f32"),
    Point("pf", 30, "f32", None, _PERCENT),
    Point("export_wh", 32, "f32"),
    Point("temp_c", 40, "f32"),
)
_DER_AC = (
    Point("w", 10, "i16", 116, _MINUS),  # "positive for DER generation and negative for absorption"
    *(Point(f"w_l{i}", 18 + 23 * i, "i16", 116, _MINUS) for i in (1, 2, 3)),
    Point("va", 11, "i16", 118),
    Point("var", 12, "i16", 119, _MINUS),
    *(Point(f"v_l{i}", 24 + 23 * i, "u16", 114) for i in (1, 2, 3)),
    *(Point(f"a_l{i}", 22 + 23 * i, "i16", 113) for i in (1, 2, 3)),
    Point("hz", 17, "u32", 115),
    Point("pf", 13, "i16", 117, _MINUS),  # "the sign of power factor should be the sign of active power"
    Point("export_wh", 19, "u64", 120),
    Point("import_wh", 23, "u64", 120),
    Point("temp_c", 36, "i16", 122),
)
# The battery's share of a hybrid inverter that says it in model 160: modules of 20 registers from 10, DCW at 11 in each.
_BATTERY_MODULES = (Point("w", 10 + 2 * 20 + 11, "u16", 4), Point("w", 10 + 3 * 20 + 11, "u16", 4, _MINUS))
MODULES_ID = 160

LAYOUTS: Mapping[int, Layout] = {
    **{id_: Layout("meter", 105, _METER) for id_ in (201, 202, 203, 204)},  # single phase, split phase, wye, delta
    **{id_: Layout("meter", 124, _METER_FLOAT) for id_ in (211, 212, 213, 214)},
    **{id_: Layout("inverter", 50, _INVERTER) for id_ in (101, 102, 103)},
    **{id_: Layout("inverter", 60, _INVERTER_FLOAT) for id_ in (111, 112, 113)},
    701: Layout("inverter", 153, _DER_AC),
    713: Layout("storage", 7, (Point("soc_pct", 4, "u16", 8),)),
    124: Layout("storage", 24, (Point("soc_pct", 8, "u16", 22),)),
    MODULES_ID: Layout("storage", 88, _BATTERY_MODULES),
}

QUIRKS = (
    Quirk("solaredge", "evcc templates solaredge-inverter.yaml and solaredge-hybrid.yaml: 203:W, scale -1", meter_exports=True),
    Quirk("huawei", "Huawei SUN2000 register 37113, active power of the meter: above 0 it feeds in", meter_exports=True),
    Quirk("kostal", "volkszaehler/mbmd meters/sunspec/sunspec.go, FixKostal", signed_acc32=True),
    Quirk("fronius", "evcc template fronius-gen24.yaml: battery power", battery_in_160=True),
)
