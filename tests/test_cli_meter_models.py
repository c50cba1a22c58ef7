"""grid meter decode and models: recordings, and the list of what is known."""

import json
import re

import pytest
from live import cli
from meter_cli import decoded
from sml_telegrams import PLAIN
from telegrams import HISTORIC, NETHERLANDS_5, STANDARD
from test_cli import in_window

from drivers.catalog import find, models
from drivers.reading import QUANTITIES


@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize(
    ("kind", "telegram", "w"), [("p1", NETHERLANDS_5, -2317), ("sml", PLAIN, -1234), ("tic", HISTORIC, 740), ("tic", STANDARD, 948)]
)
def test_a_capture_begun_midway_with_one_damaged_telegram(kind, telegram, w, stdin, tmp_path):
    middle = len(telegram) // 2
    damaged = telegram[:middle] + bytes([telegram[middle] ^ 0x08]) + telegram[middle + 1 :]
    code, said, errors = decoded(kind, telegram[middle:] + telegram + damaged + telegram * 2, tmp_path, stdin)
    assert code == 0
    assert [row["w"] for row in said] == [w] * 3
    assert all(list(row) == ["name", "quality", "why", *QUANTITIES, "age_s"] for row in said)
    assert all((row["name"], row["quality"], row["age_s"]) == (kind, "good", None) for row in said)
    assert re.fullmatch(r"grid: \d damaged telegrams? left out\n", errors)


def test_a_capture_of_one_telegram_is_shown(tmp_path):
    """In the field the first one waits for another like it."""
    code, said, _ = decoded("sml", PLAIN, tmp_path)
    assert (code, [row["w"] for row in said]) == (0, [-1234])


def test_a_capture_without_a_good_telegram_is_code_1(tmp_path):
    code, said, errors = decoded("p1", PLAIN, tmp_path)
    assert (code, said) == (1, [])
    assert "no good p1 telegram; is it the right kind" in errors
    assert cli("meter", "decode", "sml", str(tmp_path / "none")).returncode == 2
    assert cli("meter", "decode", "sml", str(tmp_path)).returncode == 2
    assert cli("meter", "decode", "dlms", "-").returncode == 2


# models


def test_models_as_json_say_how_each_is_read():
    (said,) = cli("meter", "models", "--json").stdout.splitlines()
    rows = {row["id"]: row for row in json.loads(said)}
    assert set(rows) == set(models())
    assert rows["eastron-sdm630"] == {
        "id": "eastron-sdm630",
        "vendor": "Eastron",
        "models": list(find("eastron-sdm630").models),
        "protocol": "modbus",
        "phases": 3,
        "trust": "A",
    }
    assert rows["sml"]["protocol"] == "sml"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_models_fit_a_window(columns):
    code, said = in_window(columns, "meter", "models")
    assert code == 0
    lines = re.sub(r"\x1b\[\d*m", "", said).splitlines()
    assert all(len(line) <= columns for line in lines), lines
    assert all(any(line.startswith(name) for line in lines[1:]) for name in models())
    assert lines[0].startswith("model ")
    assert lines[0].endswith("sold as")
    assert "trust" in lines[0]
    assert ("vendor" in lines[0]) == (columns == 120)
    assert max(map(len, lines)) == columns, "the names of trade take all that is left"


def test_models_in_a_pipe_have_every_name_of_trade():
    said = cli("meter", "models").stdout.splitlines()
    assert said[0].split("\t") == ["model", "vendor", "protocol", "phases", "trust", "sold as"]
    assert {line.split("\t")[0]: line.split("\t")[5] for line in said[1:]} == {
        map_.id: ", ".join(map_.models) for map_ in models().values()
    }
