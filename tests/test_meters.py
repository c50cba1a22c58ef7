"""The catalog: every map of the folder, by its own worked examples."""

from pathlib import Path

import pytest

import drivers
from drivers.catalog import find, models, names
from drivers.registers import MapError, decode, encode, plan, rounded

FOLDER = Path(drivers.__file__).with_name("meters")
FILES = sorted(path.stem for path in FOLDER.glob("*.toml"))
EXAMPLES = [(map_, example) for map_ in models().values() for example in map_.examples]


@pytest.mark.parametrize("stem", FILES)
def test_a_map_is_named_as_its_file_and_has_sources_and_examples(stem):
    map_ = find(stem)
    assert map_.id == stem
    assert map_.sources
    assert map_.examples, f"{stem} has no worked example: add one to its [example] table"
    assert "w" in {example.name for example in map_.examples}, f"{stem}: show how its watts are read"
    assert all(example.source for example in map_.examples)


@pytest.mark.parametrize(("map_", "example"), EXAMPLES, ids=[f"{map_.id} {example.name}" for map_, example in EXAMPLES])
def test_a_worked_example(map_, example):
    reg = map_.regs[example.name]
    value = decode(reg, example.words, map_.word_order)
    assert value is not None
    shown = rounded(example.name, value)
    assert shown == example.value
    assert type(shown) is type(example.value)
    assert encode(reg, value, map_.word_order) == example.words


@pytest.mark.parametrize("map_", models().values(), ids=FILES)
def test_a_map_keeps_a_line_of_9600_baud_free(map_):
    """Three meters at one request a second each: the watts must come in one request."""
    assert len(plan(map_, "fast")) == 1
    assert map_.trust in ("A", "B", "C")
    assert {"v_l1", "hz"} <= set(map_.ranges), "without a plausible range a wrong word order is never seen"


def test_the_four_models_are_there():
    assert {"abb-b2x", "eastron-sdm120", "eastron-sdm230", "eastron-sdm630"} <= set(models())


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("eastron-sdm630", "eastron-sdm630"),
        ("EASTRON-SDM630", "eastron-sdm630"),
        ("sdm630-modbus v2", "eastron-sdm630"),
        ("B23", "abb-b2x"),
    ],
)
def test_a_model_is_found_by_id_and_by_its_name_on_the_box(name, id_):
    assert find(name).id == id_


def test_a_misspelt_model_is_answered_with_the_nearest():
    with pytest.raises(MapError, match="'eastron-sdm360'; did you mean eastron-sdm630"):
        find("eastron-sdm360")
    with pytest.raises(MapError, match="known are abb-b2x, eastron-sdm120"):
        find("zzzzzzzzzzzz")


@pytest.mark.parametrize("name", ["../meters/eastron-sdm630", "", "/etc/passwd"])
def test_a_path_without_its_ending_is_no_model(name):
    with pytest.raises(MapError, match="no meter model"):
        find(name)


def test_a_map_of_ones_own_is_found_by_its_path(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        (FOLDER / "eastron-sdm120.toml").read_text().replace('word_order = "big"', 'word_order = "little"'), encoding="utf-8-sig"
    )
    assert find(str(own)).word_order == "little"
    with pytest.raises(MapError, match=r"absent\.toml: cannot be read"):
        find(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MapError, match=r"latin\.toml: cannot be read"):
        find(str(tmp_path / "latin.toml"))


def test_every_name_is_found_and_no_two_models_share_one():
    every = [name.lower() for map_ in models().values() for name in (map_.id, *map_.models)]
    assert len(every) == len(set(every))
    assert sorted(name.lower() for name in names()) == sorted(every)
    assert all(find(name) for name in names())
