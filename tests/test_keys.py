"""keys.py: the table of keys, the files that Grid ships, and any value of any key."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import dataclasses
import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from config_texts import BALANCE, LOAD, METER, MODELS, NODE, problems, said
from hypothesis import given
from hypothesis import strategies as st

from agent import config, keys
from agent.config import load, parse
from agent.keys import KEYS, REQUIRED

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = [ROOT / "config" / "grid.toml", *sorted((ROOT / "config" / "sample").glob("*.toml"))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_right(path: Path) -> None:
    read = load(path, MODELS)
    assert read.meters
    if path.parent.name == "sample":
        assert read.node.id == path.stem
        assert all(meter.host == "127.0.0.1" and meter.simulate for meter in read.meters)
        assert len({meter.simulate for meter in read.meters}) == 1  # one household


def test_the_sample_has_its_four_kinds() -> None:
    sample = [load(path, MODELS) for path in SHIPPED[1:]]
    assert sorted(tuple(meter.role for meter in read.meters) for read in sample) == [
        ("grid",),
        ("grid", "pv"),
        ("grid", "pv", "battery"),
        ("pv",),
    ]
    ports = [read.mqtt.port for read in sample] + [meter.tcp_port for read in sample for meter in read.meters]
    assert len(set(ports)) == len(ports)


def commented_in() -> str:
    """config/grid.toml with every setting behind a # taken in."""
    return re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", SHIPPED[0].read_text("utf-8"))


def test_grid_toml_has_every_key_and_no_other() -> None:
    tables = tomllib.loads(commented_in())
    meters, loads = tables.pop("meter"), tables.pop("load")
    there = {(table, name) for table, keys in tables.items() for name in keys}
    there |= {("load", name) for load in loads for name in load}
    there |= {("meter", name) for meter in meters for name in meter if name != "simulate"}
    there |= {("meter.simulate", name) for meter in meters for name in meter.get("simulate", {})}
    assert there == {(key.table, key.name) for key in KEYS}


def test_grid_toml_shows_the_defaults() -> None:
    shipped, shown = load(SHIPPED[0], MODELS), parse(commented_in(), str(SHIPPED[0]), MODELS)
    assert shown.mqtt.read_port == 1884
    assert (dataclasses.replace(shown.mqtt, read_port=None), shown.tariff, shown.state) == (
        shipped.mqtt,
        shipped.tariff,
        shipped.state,
    )
    assert dataclasses.replace(shown.node, address=None, led_pin=None, time_zone=None) == shipped.node
    assert shown.meters[0] == shipped.meters[0]
    assert len(shown.network.join) == 2
    assert [meter.name for meter in shown.meters] == ["house", "roof", "street", "pump", "cellar"]
    assert all(len(line) <= 120 for line in SHIPPED[0].read_text("utf-8").splitlines())


def test_the_table_of_keys_is_in_order() -> None:
    assert len({(key.table, key.name) for key in KEYS}) == len(KEYS)
    for key in KEYS:
        value = tomllib.loads(f"x = {key.form.example}", parse_float=Decimal)["x"]
        assert key.form.take(value) is not None, key.name  # what messages propose is accepted
        assert key.why
        assert key.form.says
    fields = {
        "node": config.NodeConfig,
        "mqtt": config.MqttConfig,
        "network": config.NetworkConfig,
        "state": config.StateConfig,
        "meter.simulate": config.SimulateConfig,
        "meter": config.MeterConfig,
        "battery": config.BatteryConfig,
        "feeder": config.FeederConfig,
        "frequency": config.FrequencyConfig,
    }
    for table, shape in fields.items():
        names = {key.name for key in KEYS if key.table == table} | ({"simulate"} if table == "meter" else set())
        assert names == {field.name for field in dataclasses.fields(shape)}


TOML_VALUES = st.recursive(
    st.one_of(
        st.integers().map(str),
        st.integers(min_value=2**63, max_value=2**70_000).map(hex),
        st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:f}").filter(lambda text: "." in text),
        st.sampled_from(["true", "false", "nan", "-inf", "1e99999999999999999999", "-1e-99999999999999999999", "1979-05-27", "07:32:00"]),
        st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: json.dumps(text).replace("\x7f", "\\u007f")),
        st.from_regex(r"[a-z0-9.:\[\]%-]{0,20}", fullmatch=True).map(json.dumps),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"), inner.map(lambda item: f"{{ load_w = {item} }}")
    ),
    max_leaves=4,
)  # fmt: skip


@given(st.sampled_from(KEYS), TOML_VALUES, st.integers(0, 3))
def test_any_value_of_any_key_is_taken_or_refused_on_its_line(key: keys.Key, value: str, blank: int) -> None:
    value = value.replace("\\ud", "\\u00")  # JSON spells what is beyond 16 bits in halves, TOML does not know them
    blank_lines = "# more\n" * blank
    if key.table == "node":
        kept = [line for line in NODE.splitlines(keepends=True) if not line.startswith(key.name)]
        text = "".join(kept) + f"{blank_lines}{key.name} = {value}\n"
    elif key.table == "meter.simulate":
        text = f'{NODE}{METER}host = "h"\n{blank_lines}simulate = {{ {key.name} = {value} }}\n'
    elif key.table == "meter":
        other = "" if key.name in ("port", "host", "pin") else 'port = "p"\n' if key.name in ("baud", "framing") else 'host = "h"\n'
        kept = [line for line in METER.splitlines(keepends=True) if not line.startswith(key.name)]
        text = f"{NODE}{''.join(kept)}{other}{blank_lines}{key.name} = {value}\n"
    elif key.table == "load":
        kept = [line for line in LOAD.splitlines(keepends=True) if not line.startswith(key.name)]
        text = f"{NODE}{''.join(kept)}{blank_lines}{key.name} = {value}\n"
    elif key.table in BALANCE:
        kept = [line for line in BALANCE[key.table].splitlines(keepends=True) if not line.startswith(key.name)]
        text = f"{NODE}{''.join(kept)}{blank_lines}{key.name} = {value}\n"
    else:
        text = f"{NODE}[{key.table}]\n{blank_lines}{key.name} = {value}\n"
    for problem in said(Path("grid.toml"), text):
        assert (
            problem.startswith(f"grid.toml:{text.count(chr(10))}: ") or " is above " in problem or ": there is no meter " in problem
        )


@given(st.integers(-1_000_000_000, 1_000_000_000), st.integers(0, 40), st.integers(-9, 9))
def test_money_is_exact_to_the_last_digit(micro: int, zeros: int, shift: int) -> None:
    spelled = f"{Decimal(micro).scaleb(-6):f}{'0' * zeros}"
    tariff = parse(f"{NODE}[tariff]\nimport = {spelled}\nexport = -1000\n", "grid.toml").tariff
    assert (tariff.import_u, tariff.cap_u, tariff.export_u, tariff.floor_u) == (micro, micro, -(10**9), -(10**9))
    assert problems(f"{NODE}[tariff]\nimport = {spelled}1\nexport = -1000\n")[0].startswith("5: tariff.import: must be")
    shifted = f"{Decimal(micro).scaleb(-6 - shift):f}e{shift}"
    assert parse(f"{NODE}[tariff]\nimport = {shifted}\nexport = -1000\n", "grid.toml").tariff.import_u == micro


def test_required_keys_have_no_default() -> None:
    assert {(key.table, key.name) for key in KEYS if key.default is REQUIRED} == {
        ("node", "id"),
        ("node", "rated_w"),
        ("meter", "name"),
        ("meter", "model"),
        ("meter", "role"),
        ("load", "name"),
        ("load", "pin"),
        ("load", "rated_w"),
        ("battery", "meter"),
        ("battery", "power_w"),
        ("battery", "energy_wh"),
        ("feeder", "meter"),
        ("feeder", "import_limit_w"),
    }
