"""config.py: what right files give, files that are none, and no text that raises anything but ConfigError."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import json
import re
from pathlib import Path

import pytest
from config_texts import METER, MODELS, NODE, said
from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.address import Address, to_address
from agent.config import Config, ConfigError, load, parse
from agent.wire import Rates


def rates(currency: str, import_u: int, export_u: int, floor_u: int, cap_u: int, slot_s: int, rule: str) -> Rates:
    return Rates(currency=currency, import_u=import_u, export_u=export_u, floor_u=floor_u, cap_u=cap_u, slot_s=slot_s, rule=rule)


def test_the_least_file_has_every_default() -> None:
    read = parse(NODE, "/etc/grid/grid.toml")
    assert read == Config(
        node=config.NodeConfig("a", "", "prosumer", "main", 1000, 10, None),
        mqtt=config.MqttConfig("127.0.0.1", 1883, "0.0.0.0", False),
        network=config.NetworkConfig(()),
        tariff=rates("EUR", 300_000, 80_000, 80_000, 300_000, 900, "mmr"),
        stated=frozenset(),
        meters=(),
        loads=(),
        state=config.StateConfig(Path("/var/lib/grid/a")),
        battery=None,
        feeder=None,
        frequency=config.FrequencyConfig(50, None),
        path=Path("/etc/grid/grid.toml"),
    )


def test_a_full_file() -> None:
    text = """
node = { id = "oak-house", place = "Eichenweg 7 🏡", role = "consumer", zone = "east", rated_w = 17_250, deadband_w = 0, address = "OAK.local" }
[mqtt]
host = "::1"
port = 1884
bind = "127.0.0.1"
shared = false
[network]
join = ["mill", "10.0.0.5:1885", "[fe80::1%eth0]", "[FE80:0::2]:1886"]
[tariff]
currency = "CHF"
import = 0.2871
export = -0.000001
floor = -1
cap = 1e1
slot_min = 60
rule = "mmr"
[state]
dir = "state"
[[meter]]
name = "house"
model = "./maps/mine.toml"
role = "grid"
port = "/dev/ttyUSB0"
baud = 19200
framing = "8E1"
unit = 247
every_s = 0.05
flip = true
rated_w = 1
[[meter]]
name = "roof"
model = "eastron-sdm120"
role = "pv"
host = "192.168.1.50"
tcp_port = 5020
unit = 255
every_s = 2
[meter.simulate]
load_w = 1
pv_w = 2
battery_w = 3
battery_wh = 4
seed = 5
"""
    read = parse(text, "/boot/grid.toml", MODELS)
    assert read.node == config.NodeConfig("oak-house", "Eichenweg 7 🏡", "consumer", "east", 17250, 0, Address("oak.local", 1883))
    assert read.mqtt == config.MqttConfig("::1", 1884, "127.0.0.1", False)
    assert [str(address) for address in read.network.join] == [
        "mill:1883",
        "10.0.0.5:1885",
        "[fe80::1%eth0]:1883",
        "[fe80::2]:1886",
    ]
    assert read.stated == {"currency", "import", "export", "floor", "cap", "slot_min", "rule"}
    assert read.tariff == rates("CHF", 287_100, -1, -1_000_000, 10_000_000, 3600, "mmr")
    assert read.state.dir == Path("/boot/state")
    house, roof = read.meters
    assert house == config.MeterConfig(
        "house", "/boot/maps/mine.toml", "grid", "/dev/ttyUSB0", None, 19200, "8E1", 247, 502, None, None, 0.05, True, 1, None
    )
    assert (roof.host, roof.tcp_port, roof.port, roof.unit, roof.every_s) == ("192.168.1.50", 5020, None, 255, 2.0)
    assert type(roof.every_s) is float
    assert roof.simulate == config.SimulateConfig(1, 2, 3, 4, 5)


def test_two_grid_meters_and_several_units_on_a_line_are_fine() -> None:
    one = '[[meter]]\nname = "{}"\nmodel = "abb-b2x"\nrole = "grid"\nport = "/dev/ttyUSB0"\nunit = {}\n'
    other = '[[meter]]\nname = "c"\nmodel = "abb-b2x"\nrole = "pv"\nport = "/dev/ttyUSB1"\nunit = 1\nbaud = 300\n'
    assert [meter.unit for meter in parse(NODE + one.format("a", 1) + one.format("b", 2) + other, "grid.toml").meters] == [1, 2, 1]


def test_a_relative_file_is_the_base_of_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(NODE + METER.replace("abb-b2x", "mine.toml") + 'host = "h"\n[state]\ndir = "../s"\n')
    read = load(Path("grid.toml"), MODELS)
    assert read.meters[0].model == str(tmp_path / "mine.toml")
    assert read.state.dir == tmp_path / ".." / "s"
    assert read.path == Path("grid.toml")


def test_import_may_equal_export() -> None:
    assert parse(f"{NODE}[tariff]\nimport = 0.08\nfloor = 0.08\n", "grid.toml").tariff.cap_u == 80_000


def test_empty_simulate_is_a_household_of_nothing() -> None:
    read = parse(NODE + METER + 'host = "h"\nsimulate = {}\n', "grid.toml")
    assert read.meters[0].simulate == config.SimulateConfig(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mill", Address("mill", 1883)),
        ("Mill.local:1", Address("mill.local", 1)),
        ("my_broker:65535", Address("my_broker", 65535)),
        ("10.0.0.5", Address("10.0.0.5", 1883)),
        ("[::1]", Address("::1", 1883)),
        ("[::1]:1884", Address("::1", 1884)),
        ("[fe80::1%eth0]:7", Address("fe80::1%eth0", 7)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert to_address(text) == address
    assert to_address(str(address)) == address


def test_models_are_checked_only_against_a_list() -> None:
    text = NODE + METER.replace("abb-b2x", "nobody") + 'host = "h"\n'
    assert parse(text, "grid.toml").meters[0].model == "nobody"
    assert parse(text, "grid.toml", ["nobody"]).meters[0].model == "nobody"
    with pytest.raises(ConfigError, match="there is no model 'nobody'"):
        parse(text, "grid.toml", [])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            '[node]\nplace = "Grüner Weg"\n'.encode("latin-1"),
            "2: file: not UTF-8 (byte 0xfc). Save it again with the encoding UTF-8",
        ),
        (b"\xef\xbb\xbf[node]\r\n\r\nplace = '\xfc'\r\n", "3: file: not UTF-8 (byte 0xfc)"),
        (b"\xef\xbb\xbf\n\xfc", "2: file: not UTF-8 (byte 0xfc)"),
        (NODE.encode("utf-16"), "1: file: not UTF-8 (byte 0xff)"),
        (bytes(4096), "1: file: not TOML: Invalid statement (column 1)"),
        (b"", "1: node.id: missing"),
    ],
)
def test_bytes_that_are_not_text(tmp_path: Path, data: bytes, expected: str) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.problems[0].startswith(f"{file}:{expected}")


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(b"\xef\xbb\xbf" + NODE.replace("\n", "\r\n").encode())
    assert load(file).node == parse(NODE, "grid.toml").node


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml")
    [told] = caught.value.problems
    assert told == f"{tmp_path}/none.toml: there is no such file. Copy Grid's config/grid.toml there and set its id"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    [told] = caught.value.problems
    assert told == f"{tmp_path}: cannot be read (Is a directory). Name a file that this user may read"


@given(st.text(st.characters()))
def test_no_text_raises_anything_else(text: str) -> None:
    for whole in (text, NODE + text, NODE + METER + 'host = "h"\n' + text, f"[node]\nid = {json.dumps(text)}\nrated_w = 1"):
        for problem in said(Path("grid.toml"), whole):
            assert re.match(r"grid\.toml:\d+: .", problem)
            assert 1 <= int(problem.split(":")[1]) <= whole.count("\n") + 1


@given(st.binary())
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(data)
    assert said(file)
