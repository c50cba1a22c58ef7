"""The catalog: every map of the folder, by its own worked examples."""

from pathlib import Path

import pytest

import drivers
from drivers.catalog import find, models, names
from drivers.registers import MapError, decode, encode, measure, plan

FOLDER = Path(drivers.__file__).with_name("meters")
FILES = sorted(path.stem for path in FOLDER.glob("*.toml"))
MAPS = [map_ for map_ in models().values() if map_.protocol == "modbus"]
OTHERS = [map_ for map_ in models().values() if map_.protocol != "modbus"]
IDS = [map_.id for map_ in MAPS]
EXAMPLES = [(map_, example) for map_ in MAPS for example in map_.examples]


@pytest.mark.parametrize("stem", FILES)
def test_a_model_is_named_as_its_file_and_has_sources(stem):
    map_ = find(stem)
    assert map_.id == stem
    assert map_.vendor
    assert map_.models
    assert map_.phases in (1, 3)
    assert map_.sources
    assert map_.trust != "B" or len(map_.sources) > 1 or map_.protocol != "modbus", "two implementations are two sources"
    assert map_.id not in map_.alike
    assert all(find(other) for other in map_.alike)


@pytest.mark.parametrize("map_", MAPS, ids=IDS)
def test_a_map_has_worked_examples(map_):
    assert map_.examples, f"{map_.id} has no worked example: add one to its [example] table"
    shown = {example.name: example.value for example in map_.examples}
    assert all(example.source for example in map_.examples)
    assert "w" in shown, f"{map_.id}: show how its watts are read"
    counter = "import_wh" if map_.device == "meter" else "export_wh"
    assert {"v_l1", "hz", counter} & set(map_.regs) <= set(shown)
    assert (shown["w"] < 0) == map_.directional, "a sign that is turned must break an example"


@pytest.mark.parametrize(("map_", "example"), EXAMPLES, ids=[f"{map_.id} {example.name}" for map_, example in EXAMPLES])
def test_a_worked_example(map_, example):
    shown = measure(map_, example.words).values[example.name]
    assert shown == example.value
    assert type(shown) is type(example.value)
    for name, words in example.words.items():
        value = decode(map_.regs[name], words, map_.word_order)
        assert value is not None
        assert encode(map_.regs[name], value, map_.word_order) == words


# Two requests a second: no source shows that the hole between the phases' watts and the total can be read along.
TWO_REQUESTS = {"eastron-sdm72dm-v2", "gavazzi-em24-rs485"}
THINK_S = 0.06  # the slowest of the SDM meters


@pytest.mark.parametrize("map_", MAPS, ids=IDS)
def test_three_meters_can_be_read_every_second(map_):
    blocks = plan(map_, "fast")
    assert len(blocks) == (2 if map_.id in TWO_REQUESTS else 1)
    line_s = sum(THINK_S + (13 + 2 * block.count) * 11 / map_.baud for block in blocks)  # 13 bytes around the registers
    assert line_s < 0.33


@pytest.mark.parametrize("map_", MAPS, ids=IDS)
def test_volts_and_hertz_prove_a_map_where_it_has_them(map_):
    assert {"v_l1", "hz"} & set(map_.regs) <= set(map_.ranges), "without a plausible range a wrong word order is never seen"
    if map_.phases == 3 and "w" in map_.regs and "w_l1" in map_.regs:
        assert map_.sums == {"w": ("w_l1", "w_l2", "w_l3")}


@pytest.mark.parametrize("map_", [map_ for map_ in MAPS if map_.device == "generator"], ids=lambda map_: map_.id)
def test_a_generator_that_makes_shows_negative_watts_and_counts_export(map_):
    """As a meter in front of it would: drivers/reading.py takes - of a pv meter as produced."""
    (example,) = (example for example in map_.examples if example.name == "w")
    assert decode(map_.regs["w"], example.words["w"], map_.word_order) < 0
    assert map_.regs["w"].scale < 0
    assert "export_wh" in map_.regs


def test_the_models_are_there():
    assert {"abb-b2x", "eastron-sdm120", "eastron-sdm230", "eastron-sdm630"} <= set(models())
    assert len(MAPS) >= 20
    assert not [map_.id for map_ in MAPS if not map_.directional and map_.id != "peacefair-pzem004t-v3"]


# id, protocol, baud, framing, TCP port
LINKS = [
    ("sunspec", "sunspec", 9600, "8N1", 502),
    ("p1", "p1", 115200, "8N1", None),
    ("sml", "sml", 9600, "8N1", None),
    ("tic", "tic", 1200, "7E1", None),
    ("s0", "s0", 9600, "8N1", None),
    ("schneider-iem3x55", "modbus", 19200, "8E1", None),
    ("eastron-sdm120", "modbus", 2400, "8N1", None),
    ("siemens-pac2200", "modbus", 9600, "8N1", 502),
]


@pytest.mark.parametrize(("id_", "protocol", "baud", "framing", "tcp_port"), LINKS)
def test_a_model_brings_its_factory_settings(id_, protocol, baud, framing, tcp_port):
    map_ = find(id_)
    assert (map_.protocol, map_.baud, map_.framing, map_.tcp_port) == (protocol, baud, framing, tcp_port)


def test_what_is_not_read_by_registers_has_none():
    assert {map_.protocol for map_ in OTHERS} == {"sunspec", "p1", "sml", "tic", "s0"}
    assert not [map_.id for map_ in OTHERS if map_.regs or map_.examples]
    assert not find("s0").directional


@pytest.mark.parametrize("volts", [230.0, 2300.0])
def test_the_two_maps_of_the_dtsu666_name_each_other_when_taken_for_one_another(volts):
    map_ = find("chint-dtsu666" if volts == 230.0 else "chint-dtsu666-x1")
    raw = encode(find("chint-dtsu666-x1").regs["v_l1"], volts, "big")
    other = "chint-dtsu666-x1" if volts == 230.0 else "chint-dtsu666"
    reading = measure(map_, {"v_l1": raw})
    assert reading.quality == "suspect"
    assert f"is {map_.id} the right model (and not {other})" in reading.why


def test_an_em24_in_the_wrong_application_or_of_another_type_is_suspect():
    em24 = find("gavazzi-em24-e1")
    assert measure(em24, {"ident": (1650,), "require": (7,)}).quality == "good"
    wrong = measure(em24, {"ident": (340,), "require": (0,)})
    assert wrong.quality == "suspect"
    assert "ident (register 0x000B) reads 340, not 1648 or 1649" in wrong.why
    assert "is gavazzi-em24-e1 the right model (and not gavazzi-em24-rs485)?" in wrong.why
    assert "require (register 0xA000) reads 0, not 7; set the EM24's application to H" in wrong.why


def test_a_huawei_meters_counters_keep_their_names_while_its_watts_are_turned():
    huawei = find("huawei-sun2000-meter")
    values = measure(huawei, {"w": (0, 500), "export_wh": (0, 7), "import_wh": (0, 9)}).values
    assert values == {"w": -500, "export_wh": 70, "import_wh": 90}
    assert measure(huawei, {"w": (0x7FFF, 0xFFFF)}).values == {}
    assert measure(huawei, {"w": (0x8000, 0x0000)}).values == {}


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("eastron-sdm630", "eastron-sdm630"),
        ("EASTRON-SDM630", "eastron-sdm630"),
        ("sdm630-modbus v2", "eastron-sdm630"),
        ("B23", "abb-b2x"),
        ("janitza b23", "janitza-19000"),
        ("Linky", "tic"),
        ("pzem-004t v3", "peacefair-pzem004t-v3"),
    ],
)
def test_a_model_is_found_by_id_and_by_its_name_on_the_box(name, id_):
    assert find(name).id == id_


def test_a_misspelt_model_is_answered_with_the_nearest():
    with pytest.raises(MapError, match="'eastron-sdm360'; did you mean eastron-sdm630"):
        find("eastron-sdm360")
    with pytest.raises(MapError, match="known are abb-b2x, chint-ddsu666"):
        find("qqqqqqqqqqqq")


@pytest.mark.parametrize("name", ["../meters/eastron-sdm630", "", "/etc/passwd"])
def test_a_path_without_its_ending_is_no_model(name):
    with pytest.raises(MapError, match="no meter model"):
        find(name)


def test_a_map_of_ones_own_is_found_by_its_path(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        (FOLDER / "eastron-sdm120.toml")
        .read_text()
        .partition("[example]")[0]
        .replace('word_order = "big"', 'word_order = "little"'),
        encoding="utf-8-sig",
    )
    assert find(str(own)).word_order == "little"
    with pytest.raises(MapError, match=r"absent\.toml: cannot be read"):
        find(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MapError, match=r"latin\.toml: cannot be read"):
        find(str(tmp_path / "latin.toml"))


def test_a_wrong_map_of_ones_own_is_told_by_file_and_line(tmp_path):
    own = tmp_path / "my-meter.toml"
    text = (FOLDER / "gavazzi-em24-e1.toml").read_text()
    own.write_text(text.replace("one_of = [7]", 'one_of = ["H"]'))
    number = text.splitlines().index("one_of = [7]") + 1
    with pytest.raises(MapError, match=rf"my-meter\.toml:{number}: require\.one_of: Expected `int`, got `str`"):
        find(str(own))


def test_every_name_is_found_and_no_two_models_share_one():
    every = [name.lower() for map_ in models().values() for name in (map_.id, *map_.models)]
    assert len(every) == len(set(every))
    assert sorted(name.lower() for name in names()) == sorted(every)
    assert all(find(name) for name in names())
