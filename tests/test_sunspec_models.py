"""The SunSpec tables against the published ones, which are told here in another form."""

from fractions import Fraction

import pytest

from drivers.reading import QUANTITIES
from drivers.sunspec_models import LAYOUTS, MODULES_ID, QUIRKS

# quantity, offset from the ID register, type, offset of its scale factor: as computed from
# github.com/sunspec/models json/model_*.json by adding up the sizes of the points
PUBLISHED = {
    (201, 202, 203, 204): """w 18 i16 22, w_l1 19 i16 22, w_l2 20 i16 22, w_l3 21 i16 22, var 28 i16 32, va 23 i16 27,
        v_l1 8 i16 15, v_l2 9 i16 15, v_l3 10 i16 15, a_l1 3 i16 6, a_l2 4 i16 6, a_l3 5 i16 6, hz 16 i16 17, pf 33 i16 37,
        import_wh 46 acc32 54, export_wh 38 acc32 54""",
    (211, 212, 213, 214): """w 28 f32, w_l1 30 f32, w_l2 32 f32, w_l3 34 f32, var 44 f32, va 36 f32, v_l1 12 f32, v_l2 14 f32,
        v_l3 16 f32, a_l1 4 f32, a_l2 6 f32, a_l3 8 f32, hz 26 f32, pf 52 f32, import_wh 68 f32, export_wh 60 f32""",
    (101, 102, 103): """w 14 i16 15, var 20 i16 21, va 18 i16 19, v_l1 10 u16 13, v_l2 11 u16 13, v_l3 12 u16 13, a_l1 3 u16 6,
        a_l2 4 u16 6, a_l3 5 u16 6, hz 16 u16 17, pf 22 i16 23, export_wh 24 acc32 26, temp_c 33 i16 37""",
    (111, 112, 113): """w 22 f32, var 28 f32, va 26 f32, v_l1 16 f32, v_l2 18 f32, v_l3 20 f32, a_l1 4 f32, a_l2 6 f32,
        a_l3 8 f32, hz 24 f32, pf 30 f32, export_wh 32 f32, temp_c 40 f32""",
    (701,): """w 10 i16 116, w_l1 41 i16 116, w_l2 64 i16 116, w_l3 87 i16 116, var 12 i16 119, va 11 i16 118, v_l1 47 u16 114,
        v_l2 70 u16 114, v_l3 93 u16 114, a_l1 45 i16 113, a_l2 68 i16 113, a_l3 91 i16 113, hz 17 u32 115, pf 13 i16 117,
        import_wh 23 u64 120, export_wh 19 u64 120, temp_c 36 i16 122""",
    (713,): "soc_pct 4 u16 8",
    (124,): "soc_pct 8 u16 22",
}
LENGTHS = {101: 50, 102: 50, 103: 50, 111: 60, 112: 60, 113: 60, 701: 153, 713: 7, 124: 24}
LENGTHS |= {201: 105, 202: 105, 203: 105, 204: 105, 211: 124, 212: 124, 213: 124, 214: 124}


@pytest.mark.parametrize("ids", PUBLISHED)
def test_every_quantity_is_where_it_is_published(ids):
    wanted = set()
    for entry in PUBLISHED[ids].split(","):
        name, at, kind, *sf = entry.split()
        wanted.add((name, int(at), kind, int(sf[0]) if sf else None))
    for id_ in ids:
        layout = LAYOUTS[id_]
        assert {(point.name, point.at, point.kind, point.sf) for point in layout.points} == wanted
        assert layout.length == LENGTHS[id_]
        assert layout.which == ("storage" if id_ in (713, 124) else "meter" if 200 < id_ < 300 else "inverter")


def test_a_generator_that_gives_shows_negative_watts_and_percent_become_a_fraction():
    for id_, layout in LAYOUTS.items():
        if id_ == MODULES_ID:
            continue
        minus = {point.name for point in layout.points if point.factor < 0}
        generator = {"w", "w_l1", "w_l2", "w_l3", "var", "pf"} if id_ == 701 else {"w", "var"}
        assert minus == (generator if layout.which == "inverter" else set())
        percent = {point.name for point in layout.points if abs(point.factor) != 1}
        assert percent == ({"pf"} if id_ in (101, 102, 103, 111, 112, 113, 201, 202, 203, 204) else set())
        assert {abs(point.factor) for point in layout.points} <= {1, Fraction(1, 100)}


def test_the_tables_are_whole():
    assert set(LAYOUTS) == {id_ for ids in PUBLISHED for id_ in ids} | {MODULES_ID}
    assert {point.name for layout in LAYOUTS.values() for point in layout.points} == set(QUANTITIES)
    assert [(point.at, point.sf, point.factor) for point in LAYOUTS[MODULES_ID].points] == [(61, 4, 1), (81, 4, -1)]
    assert all(layout.points[0].name in ("w", "soc_pct") for layout in LAYOUTS.values()), "no layout without them"
    assert [quirk.maker for quirk in QUIRKS] == [quirk.maker.lower() for quirk in QUIRKS]
    assert all(quirk.source for quirk in QUIRKS)
