"""config.py and toml_lines.py: right values, and for wrong ones the line, the key and the way out."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import dataclasses
import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import config, keys, toml_lines
from agent.address import Address, to_address
from agent.config import Config, ConfigError, load, parse
from agent.keys import KEYS, REQUIRED

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = [ROOT / "config" / "grid.toml", *sorted((ROOT / "config" / "sample").glob("*.toml"))]
MODELS = ("eastron-sdm630", "eastron-sdm120", "eastron-sdm230", "abb-b2x", "p1", "s0")
NODE = '[node]\nid = "a"\nrated_w = 1000\n'  # lines 1 to 3 of most texts below
METER = '[[meter]]\nname = "m"\nmodel = "abb-b2x"\nrole = "grid"\n'  # lines 4 to 7

BALANCE = {
    "battery": '[battery]\nmeter = "m"\npower_w = 3000\nenergy_wh = 10000\n',
    "feeder": '[feeder]\nmeter = "m"\nimport_limit_w = 30000\n',
}
LOAD = '[[load]]\nname = "heater"\npin = 27\nrated_w = 2000\n'  # lines 4 to 7


def said(path: Path, text: str | None = None) -> tuple[str, ...]:
    """The problems of a text, or of the file if there is none; any other exception than ConfigError goes through."""
    try:
        load(path) if text is None else parse(text, str(path), MODELS)
    except ConfigError as error:
        return error.problems
    return ()


def problems(text: str) -> list[str]:
    """What parse says, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "grid.toml", MODELS)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith("grid.toml:") for problem in caught.value.problems)
    return [problem.removeprefix("grid.toml:") for problem in caught.value.problems]


# --- Right files ---


def test_the_least_file_has_every_default() -> None:
    read = parse(NODE, "/etc/grid/grid.toml")
    assert read == Config(
        node=config.NodeConfig("a", "", "prosumer", "main", 1000, 10, None),
        mqtt=config.MqttConfig("127.0.0.1", 1883, "0.0.0.0", False),
        network=config.NetworkConfig(()),
        tariff=config.TariffConfig("EUR", 300_000, 80_000, 80_000, 300_000, 900, "mmr"),
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
    assert read.tariff == config.TariffConfig("CHF", 287_100, -1, -1_000_000, 10_000_000, 3600, "mmr")
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1883",
        "::1",
        "[::1",
        "[mill]:1",
        "mill:",
        "mill:0",
        "mill:65536",
        "mill:٣",
        "10.0.0",
        "10.0.0.256",
        "0.0.0.0:1",
        "[::]",
        "a b",
        "-a",
        "a-",
        "a..b",
        "a" * 64,
        "a.b" * 90,
        "mqtt://mill",
        "mill/x",
        "müll",
        "[fe80::1%e\nx]",
        "[fe80::1%]",
        "mill\n",
    ],
)
def test_not_an_address(text: str) -> None:
    assert to_address(text) is None


# --- Wrong files ---

MANY_WRONG = r"""id = "x"
[node]
id = "Müller's Haus"
rol = "consumer"
rated_w = "17250"
zone = true
place = "C:\foo"
deadband_w = 99999999999999999999999999999999999999999999999999
address = "10.0.0.5:99999"
port = 3
rule = "x"
[mqqt]
[mqtt]
host = "mqtt://10.0.0.5:1884"
port = 0
bind = 1979-05-27
shared = "True"
[network]
join = [   # a list over several lines
  "a.local", "b.local",
  "fe80::1",
  "a.local:1883", 7,
]
[tariff]
currency = "eur"
import = 0.05
export = 0.0800001
floor = nan
cap = "0,30"
slot_min = 20
rule = "mrr"
[state]
dir = "~/grid"
[[meter]]
name = "a"
model = "eastron-sdm631"
role = "solar"
port = 502
[[meter]]
name = "a"
model = "eastron-sdm630"
role = "grid"
host = "10.0.0.5:502"
baud = 9600
simulate = { load_w = -1, pvw = 3 }
[[meter]]
name = "b"
model = "tesla"
role = "pv"
port = "/dev/ttyUSB0"
framing = "8n1"
unit = 0
tcp_port = 502
every_s = 1e400000000000000000000000
[[meter]]
"""
MANY_PROBLEMS = """1: id: unknown. It belongs under [node]
3: node.id: must be 1 to 32 of a-z, 0-9 and -, with no - at either end, and not network or view or agent, not the text "Müller's Haus". Write id = "muller-s-haus"
4: node.rol: unknown. Did you mean role?
5: node.rated_w: must be a whole number from 1 to 100000000 (W), not the text '17250'. Write rated_w = 17250
6: node.zone: must be 1 to 32 of a-z, 0-9 and -, with no - at either end, not true. For example zone = "main"
7: node.place: must be text of 0 to 80 characters that can be seen, not the text 'C:\\x0coo'. Delete the characters that cannot be seen; put text with a backslash between 'single quotes'
8: node.deadband_w: must be a whole number from 0 to 100000000 (W), not a number of 167 bits. For example deadband_w = 10
9: node.address: must be "host:port" that others can dial: a name, an IPv4 or an [IPv6] address, not the text '10.0.0.5:99999'. For example address = "oak-house.local:1883"
10: node.port: unknown. It belongs under [mqtt] or [[meter]]
11: node.rule: unknown. Did you mean role, or does it belong under [tariff]?
12: mqqt: unknown. Did you mean [mqtt]?
14: mqtt.host: must be a host name or an IP address, without a port, not the text 'mqtt://10.0.0.5:1884'. Write host = "10.0.0.5" and port = 1884
15: mqtt.port: must be a whole number from 1 to 65535, not 0. For example port = 1883
16: mqtt.bind: must be a host name or an IP address, without a port, not the date or time 1979-05-27. For example bind = "0.0.0.0"
17: mqtt.shared: must be true or false, not the text 'True'. Write shared = true
21: network.join[3]: must be "host:port" that others can dial: a name, an IPv4 or an [IPv6] address, not the text 'fe80::1'. Write "[fe80::1]:1883" there
22: network.join[5]: must be "host:port" that others can dial: a name, an IPv4 or an [IPv6] address, not 7. Write "oak-house.local:1883" there
22: network.join[4]: a.local:1883 stands there twice. Remove one
25: tariff.currency: must be three capital letters as in ISO 4217, not the text 'eur'. Write currency = "EUR"
27: tariff.export: must be a number from -1000 to 1000 with at most 6 decimals (currency/kWh), not 0.0800001. For example export = 0.30
28: tariff.floor: must be a number from -1000 to 1000 with at most 6 decimals (currency/kWh), not NaN. For example floor = 0.30
29: tariff.cap: must be a number from -1000 to 1000 with at most 6 decimals (currency/kWh), not the text '0,30'. Write cap = 0.30
30: tariff.slot_min: must be one of 1, 5, 10, 15, 30, 60 (min), not 20. For example slot_min = 15
31: tariff.rule: must be one of "mmr", "vwm", "sdr", "fixed", not the text 'mrr'. Write rule = "mmr"
33: state.dir: must be a path, not the text '~/grid'. Write the whole path: the service runs as another user, whose ~ is elsewhere
36: meter[1].model: there is no model 'eastron-sdm631'. Did you mean "eastron-sdm630"?
37: meter[1].role: must be one of "grid", "load", "pv", "battery", "generator", not the text 'solar'. For example role = "grid"
38: meter[1].port: must be a serial device, not 502. For Modbus TCP write host = "192.168.1.50" and tcp_port = 502
40: meter[2].name: the meter on line 34 has the same name. Rename one of them
43: meter[2].host: must be a host name or an IP address, without a port, not the text '10.0.0.5:502'. Write host = "10.0.0.5" and tcp_port = 502
44: meter[2].baud: only a serial line has it, and this meter is at a host. Remove baud
45: meter[2].simulate.pvw: unknown. Did you mean pv_w?
45: meter[2].simulate.load_w: must be a whole number from 0 to 100000000 (W), not -1. For example load_w = 400
48: meter[3].model: there is no model 'tesla'. Run grid meter models, or give a map's path: ./mine.toml
51: meter[3].framing: must be one of "8N1", "8E1", "8O1", "8N2", "7E1", not the text '8n1'. Write framing = "8N1"
52: meter[3].unit: on a serial line a unit is a number from 1 to 247. Write the one that the meter shows
53: meter[3].tcp_port: only a host has it, and this meter is on a serial line. Remove tcp_port
54: meter[3].every_s: must be a number of seconds from 0.05 to 3600 (s), not Infinity. For example every_s = 1.0
55: meter[4].name: missing (the topics grid/meter/NAME carry it). Write one under [[meter]], for example name = "house"
55: meter[4].model: missing (registers differ from model to model). Write one under [[meter]], for example model = "eastron-sdm630"
55: meter[4].role: missing (what a flow through the meter means). Write one under [[meter]], for example role = "grid"
55: meter[4]: neither a port nor a host nor a pin is there. Write port = "/dev/ttyUSB0" (a serial line), host = "192.168.1.50" (Modbus TCP) or pin = 17 (S0 pulses)
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_all_problems_of_a_file_come_at_once(tmp_path: Path, line_end: str) -> None:
    assert problems(MANY_WRONG.replace("\n", line_end)) == MANY_PROBLEMS.splitlines()
    file = tmp_path / "grid.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MANY_WRONG.replace("\n", line_end).encode())
    with pytest.raises(ConfigError) as caught:
        load(file, MODELS)
    assert caught.value.problems == tuple(f"{file}:{line}" for line in MANY_PROBLEMS.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: node.id: missing", "1: node.rated_w: missing"]),
        ("# nothing\n\n[node]\n", ["3: node.id: missing", "3: node.rated_w: missing"]),
        ("node = 3", ["1: node: must be a table, not 3. Write [node] on a line of its own, its keys below"]),
        (NODE.replace("[node]", "[[node]]"), ["1: node: must stand there once. Write [node] with single brackets"]),
        (NODE + "meter = 3", ["4: node.meter: unknown. It belongs under [battery] or [feeder] or"]),
        ("meter = 3\n" + NODE, ["1: meter[1]: must be a table, not 3."]),
        ("meter = [\n1,\n{}]\n" + NODE, ["2: meter[1]: must be a table, not 1", *["3: meter[2]"] * 4]),
        (NODE + "[meter]\nname='m'\nmodel='x/y'\nrole='pv'\nhost='h'", ["4: meter: there may be several. Write [[meter]] with double"]),
        (NODE + "[meter]\nnam='m'", ["4: meter: ", *["4: meter"] * 4, "5: meter.nam: unknown. Did you mean name?"]),
        (NODE + "[[meters]]\n", ["4: meters: unknown. Did you mean [[meter]]?"]),
        (NODE + "[MQTT]\n", ["4: MQTT: unknown. Did you mean [mqtt]?"]),
        (NODE + "[grid]\n", ["4: grid: unknown. There are [node], [mqtt], [network], [tariff], [state], [battery]"]),
        (NODE + '"a\\u001b[31m" = 1\n', ["4: node.'a\\x1b[31m': unknown."]),
        (NODE + "load_w = 1\n", ["4: node.load_w: unknown. Did you mean rated_w, or does it belong under simulate of a [[meter]]?"]),
        (NODE + "[mqtt]\nport = 1883.0\n", ["5: mqtt.port: must be a whole number from 1 to 65535, not 1883.0. Write port = 1883"]),
        (NODE + '[mqtt]\nport = "99999"\n', ["5: mqtt.port: must be a whole number from 1 to 65535, not the text '99999'. For"]),
        (NODE + "[mqtt]\nport = inf\n", ["5: mqtt.port: must be a whole number from 1 to 65535, not Infinity. For"]),
        (NODE + "[mqtt]\nport = true\n", ["5: mqtt.port: must be a whole number from 1 to 65535, not true. For"]),
        (NODE + "[mqtt]\nport = [1]\n", ["5: mqtt.port: must be a whole number from 1 to 65535, not a list. For"]),
        (NODE + "[mqtt]\nport.x = 1\n", ["5: mqtt.port: must be a whole number from 1 to 65535, not a table. For"]),
        (NODE + "[mqtt]\nshared = 1\n", ["5: mqtt.shared: must be true or false, not 1. For example shared = true"]),
        (NODE + '[mqtt]\nhost = "[::1]"\n', ["5: mqtt.host: must be a host name or an IP address, without a port, not the"]),
        (NODE + '[mqtt]\nhost = ""\n', ["5: mqtt.host: must be a host name or an IP address, without a port, not the text ''. For"]),
        (NODE + "[mqtt]\nhost = 0x" + "f" * 9000, ["5: mqtt.host: must be a host name or an IP address, without a port, not a number of"]),
        (NODE + 'place = "\\u0000"', ["4: node.place: must be text of 0 to 80 characters that can be seen, not the text '\\x00'. Del"]),
        (NODE + 'place = "\\u202e"', ["4: node.place: must be text of 0 to 80 characters that can be seen, not the text '\\u202e'"]),
        (NODE + f'place = "{"x" * 81}"', [f"4: node.place: must be text of 0 to 80 characters that can be seen, not the text '{'x' * 40}'…"]),
        (NODE + "place = '''\n\nx'''\nzone = 1", ["4: node.place: ", "7: node.zone: "]),
        (NODE.replace('"a"', '"network"'), ['2: node.id: must be 1 to 32 of a-z, 0-9 and -, with no - at either end, and not network or ']),
        (NODE.replace('"a"', '"-a"') + 'zone = "b-"', ["2: node.id: ", '4: node.zone: must be 1 to 32 of a-z, 0-9 and -, with no - at ']),
        (NODE + 'role = "Prosumers"\n', ['4: node.role: must be one of "consumer", "producer", "prosumer", not the text \'Prosumers\'. Wri']),
        (NODE + '[network]\njoin = "mill"\n', ["5: network.join: must be a list, not the text 'mill'. For example join = [\"oak-house"]),
        (NODE + '[network]\njoin = ["127.0.0.1"]', ["5: network.join[1]: 127.0.0.1:1883 is this node itself. Name another node, or"]),
        (NODE + 'address = "me"\n[network]\njoin = ["x", "ME:1883"]', ["6: network.join[2]: me:1883 is this node itself."]),
        (NODE + '[network]\nadmit = ["oak"]', ["5: network.admit: only the node that makes the network admits others. Write create ="]),
        (NODE + '[network]\ncreate = "x"\nadmit = ["oak", "a"]', ["6: network.admit[2]: a is this node itself. Name other nodes"]),
        (NODE + '[network]\ncreate = "x"\nadmit = ["oak", "oak"]', ["6: network.admit[2]: oak stands there twice. Remove one"]),
        (NODE + '[network]\ncreate = "x"\nadmit = ["Oak", "oak"]', ["6: network.admit[1]: must be 1 to 32 of a-z"]),
        (NODE + '[network]\ncreate = ""', ["5: network.create: must be text of 1 to 40 characters"]),
        (NODE + '[network]\ncreate = "x"\n[mqtt]\nshared = true', ["5: network.create: agents on one shared broker need none."]),
        (NODE + 'time_zone = "+01:00"', ["4: node.time_zone: must be a time zone of the IANA data base, not the text '+01:00'"]),
        (NODE + 'time_zone = "../../etc/passwd"', ["4: node.time_zone: must be a time zone of the IANA data base"]),
        (NODE + "time_zone = 1", ["4: node.time_zone: must be a time zone of the IANA data base, not 1. For example time_zone = "]),
        (NODE + '[mqtt]\nshared = true\n[network]\njoin = ["x"]', ["7: network.join: agents on one shared broker join nobody. Remove"]),
        (NODE + '[network]\njoin = ["mqtt://mill/"]', ["5: network.join[1]: must be"]),
        (NODE + "[tariff]\nexport = 0.4", ["5: tariff.export: export 0.4 is above import 0.3, so that buying to sell would pay. Lower export or"]),
        (NODE + "[tariff]\nimport = 0", ["4: tariff.export: export 0.08 is above import 0, so that buying"]),
        (NODE + "[tariff]\nimport = 0\ncap = 0.01", ["4: tariff.export: export 0.08 is above import 0,", "4: tariff.floor: floor 0.08 is above cap 0.01,"]),
        (NODE + "[tariff]\ncap = 0.05", ["4: tariff.floor: floor 0.08 is above cap 0.05, so that no price lies between them. Lower floor or"]),
        (NODE + "[tariff]\nimport = true", ["5: tariff.import: must be a number from -1000 to 1000 with at most 6 decimals (currency/kWh), not true"]),
        (NODE + "[tariff]\nimport = 1000.000001", ["5: tariff.import: must be a number from -1000 to 1000 with at most 6 dec"]),
        (NODE + "[tariff]\nimport = 1e-7", ["5: tariff.import: must be a number from -1000 to 1000 with at most 6 decimals"]),
        (NODE + "[tariff]\nimport = 0.3" + "0" * 40 + "1", ["5: tariff.import: must be a number from -1000 to 1000 with at most 6 d"]),
        (NODE + "[state]\ndir = ''", ["5: state.dir: must be a path, not the text ''."]),
        (NODE + METER + "port = 'p'\nhost = 'h'", ["9: meter[1].host: a meter has either a port or a host. Keep port for a serial line, host"]),
        (NODE + METER + "port = ''", ["8: meter[1].port: must be a serial device, not the text ''. For example port = \"/dev/ttyUSB0\""]),
        (NODE + METER + "port = 'a\\nb'\nevery_s = 0.04", ["9: meter[1].every_s: must be a number of seconds from 0.05 to 3600 (s), not 0.04"]),
        (NODE + METER + "host = 'h'\nevery_s = true", ["9: meter[1].every_s: must be a number of seconds from 0.05 to 3600 (s), not true"]),
        (NODE + METER + "host = 'h'\nunit = 248", ["9: meter[1].unit: must be a whole number from 1 to 247, over TCP also 0 or 255, not 248"]),
        (NODE + METER + "host = 'h'\nunit = 254", ["9: meter[1].unit: must be a whole number from 1 to 247, over TCP also 0 or 255, not 254"]),
        (NODE + METER + "host = 'h'\nunit = 256", ["9: meter[1].unit: must be a whole number from 1 to 247, over TCP also 0 or 255, not 256"]),
        (NODE + METER + "port = 'p'\nunit = 255", ["9: meter[1].unit: on a serial line a unit is a number from 1 to 247."]),
        (NODE + METER + "host = 'h'\nframing = '8N1'", ["9: meter[1].framing: only a serial line has it, and this meter is at a host. Remove"]),
        (NODE + METER + "host = 'h'\nsimulate = 3", ["9: meter[1].simulate: must be an inline table, not 3. For example simulate = { load_w"]),
        (NODE + METER + "host = 'h'\n[meter.simulate]\n\nseed = 0.5", ["11: meter[1].simulate.seed: must be a whole number from 0 to 4294967295, not"]),
    ],
)  # fmt: skip
def test_wrong_text_and_what_is_said(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected), found
    assert [told[: len(start)] for told, start in zip(found, expected, strict=True)] == expected


TWO = """[[meter]]
name = "a"
model = "abb-b2x"
role = "grid"
{}
[[meter]]
name = "b"
model = "{}"
role = "pv"
{}
"""


@pytest.mark.parametrize(
    ("first", "model", "second", "expected"),
    [
        ("host='h'", "abb-b2x", "host='H'\ntcp_port=502", ["9: meter[2].unit: the meter on line 4 has the same line and unit. Set another"]),
        ("port='p'", "eastron-sdm120", "port='p'", []),
        ("host='h'", "abb-b2x", "host='h'\ntcp_port=503", []),
        ("host='h'\nunit=1", "abb-b2x", "host='h'\nunit=0", []),
        ("host='h'\nunit=0", "abb-b2x", "host='h'", []),
        ("port='p'\nbaud=300", "eastron-sdm120", "port='p'\nbaud=9600", ["15: meter[2].baud: the meter on line 4 is on the same wire with baud = 300. "]),
        ("port='p'\nframing='8N1'", "eastron-sdm120", "port='p'\nframing='8E1'", ['15: meter[2].framing: the meter on line 4 is on the same wire with framing = "8N1"']),
        ("port='p'\nbaud=300", "eastron-sdm120", "port='p'", []),
        ("port='p'\nbaud=300", "eastron-sdm120", "port='q'\nbaud=9600", []),
        ("port='p'\nbaud=300\nunit=300", "abb-b2x", "port='p'\nbaud=300", ["10: meter[1].unit: must be"]),
    ],
)  # fmt: skip
def test_meters_that_contradict_each_other(first: str, model: str, second: str, expected: list[str]) -> None:
    text = NODE + TWO.format(first, model, second)
    if not expected:
        assert len(parse(text, "grid.toml", MODELS).meters) == 2
        return
    found = problems(text)
    assert [told[: len(start)] for told, start in zip(found, expected, strict=True)] == expected


def test_models_are_checked_only_against_a_list() -> None:
    text = NODE + METER.replace("abb-b2x", "nobody") + 'host = "h"\n'
    assert parse(text, "grid.toml").meters[0].model == "nobody"
    assert parse(text, "grid.toml", ["nobody"]).meters[0].model == "nobody"
    with pytest.raises(ConfigError, match="there is no model 'nobody'"):
        parse(text, "grid.toml", [])


@pytest.mark.parametrize(
    ("given_id", "proposed"),
    [
        ("Oak House", "oak-house"),
        ("Straße 7", "strasse-7"),
        ("__a__", "a"),
        ("Agent", "agent-1"),
        ("view", "view-1"),
        ("x" * 31 + "-y", "x" * 31),
        ("日本", "my-house"),
        ("", "my-house"),
        ("٣", "my-house"),
        ("a\n", "a"),
    ],
)
def test_a_proposed_id_is_an_id(given_id: str, proposed: str) -> None:
    [told] = problems(NODE.replace('"a"', json.dumps(given_id)))
    assert told.endswith(f'id = "{proposed}"')
    assert parse(NODE.replace('"a"', f'"{proposed}"'), "grid.toml").node.id == proposed


# --- Text that is not TOML, files that are not text ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NODE + 'id = "b"\nzone = "c"', "4: file: not TOML: Cannot overwrite a value (column 9). The same key stands there twice: keep one"),
        (NODE + 'id = "b"', "4: file: not TOML: Cannot overwrite a value. The same key stands there twice: keep one of them"),
        (NODE + "[node]\n", "4: file: not TOML: Cannot declare ('node',) twice"),
        ("[node]\nid = my-house\n", '2: file: not TOML: Invalid value (column 6). Text needs straight quotes, "like this";'),
        ("[node]\nid = “my-house”\n", '2: file: not TOML: Invalid value (column 6). Text needs straight quotes, "like this";'),
        ("[tariff]\nimport = 0,30\n", "2: file: not TOML: Expected newline or end of document after a statement (column 11). One key ="),
        ("[node]\nhello\n", "2: file: not TOML: Expected '=' after a key in a key/value pair (column 6). A line is [table],"),
        ("[node]\n\0\n", "2: file: not TOML: Invalid statement (column 1). A line is"),
        ('[node]\nplace = "\0"\n', "2: file: not TOML: Illegal character '\\x00' (column 10). Delete that character"),
        ('[node]\nplace = "a\n"\n', "2: file: not TOML: Illegal character '\\n' (column 11). Close the text with"),
        ('[node]\nplace = """a\n\n', "2: file: not TOML: Unterminated string. Close the text with"),
        ("[network]\njoin = [\n'a',\n'b'\n", "2: file: not TOML: Unclosed array. Close the list with ]"),
        ("[state]\ndir = \"D:\\grid\"\n", "2: file: not TOML: Unescaped '\\' in a string (column 12). Put text with a backslash between"),
        ("\n\nx = " + "9" * 5000, "3: file: a number with thousands of digits. Write"),
        ("x = " + "[" * 5000, "1: file: lists stand too deep inside each other. Start again"),
        ("x = [", "1: file: not TOML: "),
        ("\ufeff" + NODE, "1: file: not TOML: Invalid statement"),
    ],
)  # fmt: skip
def test_text_that_is_not_toml(text: str, expected: str) -> None:
    [told] = problems(text)
    assert told[: len(expected)] == expected


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


# --- The file that users edit, the table of keys, the dataclasses: one list of keys ---


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


# --- Properties ---


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


@pytest.mark.parametrize(
    ("text", "where", "line"),
    [
        ("a = 1\n\nb = 2", ("b",), 3),
        ("[t]\na = 1", ("t",), 1),
        ("[t]\na = 1", ("t", "a"), 2),
        ("[t]\na.b = 1\na.c = 2", ("t", "a", "c"), 3),
        ("[t]\na.b = 1\na.c = 2", ("t", "a"), 2),
        ("[t.u]\na = 1\n[t]\nb = 1", ("t",), 3),
        ("[t.u]\na = 1", ("t",), 1),
        ("[[m]]\na = 1\n[[m]]\na = 2", ("m", 1, "a"), 4),
        ("[[m]]\na = 1\n[[m]]\na = 2", ("m",), 1),
        ("[[m]]\n[m.s]\na = 1\n[[m]]\n[m.s]\na = 2", ("m", 1, "s", "a"), 6),
        ("[[m]]\n[[m.n]]\n[[m.n]]\na = 1\n[[m]]\n[[m.n]]\na = 2", ("m", 0, "n", 1, "a"), 4),
        ("[[m]]\n[[m.n]]\n[[m.n]]\na = 1\n[[m]]\n[[m.n]]\na = 2", ("m", 1, "n", 0, "a"), 7),
        ("x = 1\nm = { a = 1, b = { c = 2 } }", ("m", "b", "c"), 2),
        ("m = [\n  { a = 1 },\n  { a = 2 },\n]", ("m", 1, "a"), 3),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("m", 1), 3),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("m", 2), 4),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("b",), 5),
        ('a = """\n[t]\n\\""" b = 1\\\n""""\nb = 2', ("b",), 5),
        ("a = '''\n[t]\n''b = 1\n''''\nb = 2", ("b",), 5),
        ('a = "# \\" ["\nb = 2', ("b",), 2),
        ('a = ["""x"""", "["]\nb = 2', ("b",), 2),
        ("a = ['''x'''', '[']\nb = 2", ("b",), 2),
        ("a = '\\'\nb = 2", ("b",), 2),
        ('"a.b" = 1\n\'c"\'."\\u00e4" = 2 # x', ('c"', "ä"), 2),
        ('"a.b" = 1\n\'c"\' . "\\u00e4"\t= 2 # x', ("a.b",), 1),
        ("[ t . 'u v' ]\n\ta = 1979-05-27 07:32:00\nb = 1", ("t", "u v", "b"), 3),
        ("[t]", ("t", "missing"), 1),
        ("a = 1", ("t", "missing"), 1),
    ],
)
def test_lines_of_keys(text: str, where: toml_lines.Where, line: int) -> None:
    values, lines = toml_lines.read(text)
    assert values
    assert toml_lines.line_of(where, lines) == line
    assert toml_lines.read(text.replace("\n", "\r\n")) == (values, lines) or "'''" in text or '"""' in text


STRINGS = st.text(st.sampled_from("a\\\"'#[]{}=,.\n "), max_size=8)
SPELLED = st.one_of(
    STRINGS.map(json.dumps),
    STRINGS.filter(lambda text: "'" not in text and "\n" not in text).map(lambda text: f"'{text}'"),
    STRINGS.filter(lambda text: "\\" not in text and '"""' not in text and not text.endswith('"')).map(
        lambda text: f'"""{text}"""'
    ),
    STRINGS.filter(lambda text: "'''" not in text and not text.endswith("'")).map(lambda text: f"'''{text}'''"),
)
NESTED = st.recursive(
    st.one_of(SPELLED, st.just("1")),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[\n" + " , # ],\n".join(items) + "\n]"),
)


@given(st.lists(st.tuples(st.sampled_from(["key", "quoted", "table", "array", "comment"]), NESTED, SPELLED), max_size=8))
def test_lines_of_any_text(statements: list[tuple[str, str, str]]) -> None:
    text, table, count, expected = "", (), 0, {}
    for index, (kind, value, name) in enumerate(statements):
        line = text.count("\n") + 1
        if kind == "table":
            table = (f"t{index}",)
            text += f"[ t{index} ] # ]\n"
            expected[table] = line
        elif kind == "array":
            table, count = ("m", count), count + 1
            text += "[[m]]\n"
            expected[table] = line
        elif kind == "comment":
            text += '# """ [ {\n\t\n'
        elif kind == "quoted" and "\n" not in name and name[:3] not in ('"""', "'''"):
            text += f"k{index} . {name} = {value}\n"
            expected[(*table, f"k{index}", tomllib.loads(f"x = {name}")["x"])] = line
        else:
            text += f"k{index}= {value} # [\n"
            expected[(*table, f"k{index}")] = line
    lines = toml_lines.locate(text)
    assert {where: lines[where] for where in expected} == expected


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


def test_a_rule_that_cannot_price_these_rates() -> None:
    rates = "[tariff]\nimport = 0.30\nexport = 0.002\nfloor = 0.0\n"
    assert problems(f'{NODE}{rates}rule = "sdr"\n') == [
        "8: tariff.rule: sdr needs an export rate above 0 and of 1 % of the import rate or more. Raise it, or take mmr"
    ]
    parse(f'{NODE}{rates}rule = "mmr"\n', "grid.toml")
    parse(f'{NODE}[tariff]\nrule = "sdr"\n', "grid.toml")


def test_a_load() -> None:
    text = f'{NODE}{LOAD}class = 1\nkind = "compressor"\nactive_low = true\nsafe = "off"\nmin_off_s = 300\n{LOAD}'
    first, _ = parse(text.replace('"heater"', '"freezer"', 1).replace("pin = 27", "pin = 22", 1), "grid.toml").loads
    assert first == config.LoadConfig("freezer", 22, 2000, 1, "compressor", True, False, None, 300)
    assert problems(text) == [
        "14: load[2].name: the load on line 4 has the same name. Rename one of them",
        "15: load[2].pin: pin 27 is that of the load on line 4. Give each a pin of its own",
    ]
    assert problems(f'{NODE}led_pin = 27\n{LOAD}kind = "compressor"\nmin_off_s = 10\n') == [
        "7: load[1].pin: pin 27 is that of the lamp. Give each a pin of its own",
        "10: load[1].min_off_s: a compressor that starts again after 10 s breaks. Write 300 or more, or leave it out",
    ]
    assert problems(f"{NODE}[load]\nname = 'x'\n")[0].startswith("4: load: there may be several. Write [[load]]")
    assert (
        problems(f"{NODE}load = 5\n")[0]
        == "4: node.load: unknown. There are id, place, role, zone, rated_w, deadband_w, address, led_pin, time_zone"
    )


def meters(*rows: tuple[str, str]) -> str:
    """One meter a (name, role), five lines each from line 4 on."""
    return "".join(
        f'[[meter]]\nname = "{name}"\nmodel = "abb-b2x"\nrole = "{role}"\nhost = "h{index}"\n'
        for index, (name, role) in enumerate(rows)
    )


BALANCED = NODE + meters(("house", "grid"), ("cellar", "battery"), ("boiler", "load"), ("set", "generator"))


def test_a_battery_a_feeder_and_the_frequency() -> None:
    battery = BALANCE["battery"].replace('"m"', '"cellar"')
    feeder = BALANCE["feeder"].replace('"m"', '"house"')
    load = LOAD + 'meter = "boiler"\n'
    read = parse(f'{BALANCED}{battery}{feeder}{load}[frequency]\nnominal_hz = 60\nmeter = "cellar"\n', "grid.toml")
    assert read.battery == config.BatteryConfig("cellar", 3000, 10_000, "none", True, 50, 60)
    assert read.feeder == config.FeederConfig("house", "grid", 30_000, None)
    assert read.frequency == config.FrequencyConfig(60, "cellar")
    assert read.loads[0].meter == "boiler"
    more = 'control = "sunspec-704"\ndroop = false\ndeadband_w = 0\nrevert_s = 30\n'
    island = '[feeder]\nmeter = "set"\nkind = "generator"\nimport_limit_w = 1\n'
    read = parse(BALANCED + battery + more + island, "grid.toml")
    assert read.battery == config.BatteryConfig("cellar", 3000, 10_000, "sunspec-704", False, 0, 30)
    assert read.feeder == config.FeederConfig("set", "generator", 1, None)
    tied = parse(BALANCED + feeder + "export_limit_w = 0\n", "grid.toml").feeder
    assert tied is not None
    assert tied.export_limit_w == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[battery]\n", ["24: battery.meter: missing", "24: battery.power_w: missing", "24: battery.energy_wh: missing"]),
        ("[feeder]\n", ["24: feeder.meter: missing", "24: feeder.import_limit_w: missing"]),
        ("[batery]\n", ["24: batery: unknown. Did you mean [battery]?"]),
        (BALANCE["battery"], ["25: battery.meter: there is no meter 'm'. There are house, cellar, boiler, set"]),
        (BALANCE["battery"].replace('"m"', '"cellr"'), ["25: battery.meter: there is no meter 'cellr'. Did you mean \"cellar\"?"]),
        (BALANCE["battery"].replace('"m"', '"set"'), ["25: battery.meter: the meter 'set' is of role generator, not battery. Name \"cellar\""]),
        (BALANCE["battery"].replace('"m"', '"cellar"') + 'control = "sunspec"', ["28: battery.control: must be one of \"none\", \"sunspec-124\", \"sunspec-704\","]),
        (BALANCE["feeder"].replace('"m"', '"set"'), ["25: feeder.meter: the meter 'set' is of role generator, not grid. Name \"house\""]),
        (BALANCE["feeder"].replace('"m"', '"house"') + 'kind = "generator"', ["25: feeder.meter: the meter 'house' is of role grid, not generator or battery. Name"]),
        (BALANCE["feeder"].replace('"m"', '"set"') + 'kind = "generater"', ["27: feeder.kind: must be one of \"grid\", \"generator\", not the text 'generater'. Write kind"]),
        (BALANCE["feeder"].replace('"m"', '"set"') + 'kind = "generator"\nexport_limit_w = 5', ["28: feeder.export_limit_w: a generator takes nothing back. Remove it"]),
        (BALANCE["battery"].replace('"m"', '"cellar"') + BALANCE["feeder"].replace('"m"', '"cellar"') + 'kind = "generator"', ["25: battery.meter: the unit that forms the grid cannot follow set-points. Remove [battery], or"]),
        ('[frequency]\nnominal_hz = 51\nmeter = "hous"', ["25: frequency.nominal_hz: must be one of 50, 60 (Hz), not 51.", "26: frequency.meter: there is no meter 'hous'. Did you mean \"house\"?"]),
        (LOAD + 'meter = "house"', ["28: load[1].meter: the meter 'house' is of role grid, not load. Name \"boiler\""]),
        (LOAD + 'meter = "boiler"\n' + LOAD.replace("heater", "b").replace("27", "22") + 'meter = "boiler"', ["33: load[2].meter: the load on line 24 has the same meter. Leave it out at both"]),
        ("battery = 5", ["24: meter[4].battery: unknown."]),
    ],
)  # fmt: skip
def test_what_of_balance_contradicts_itself(text: str, expected: list[str]) -> None:
    found = problems(BALANCED + text)
    assert len(found) == len(expected), found
    assert [told[: len(start)] for told, start in zip(found, expected, strict=True)] == expected


def test_a_battery_without_a_meter_that_set_points_reach() -> None:
    pin = '[[meter]]\nname = "m"\nmodel = "s0"\nrole = "battery"\npin = 17\nimp_per_kwh = 1000\n'
    assert problems(NODE + pin + BALANCE["battery"] + 'control = "sunspec-124"\n') == [
        "14: battery.control: no set-point reaches 'm', which is on a pin. Set-points go over Modbus: give that meter a port or a host"
    ]
    assert problems(NODE + BALANCE["battery"])[0] == "5: battery.meter: there is no meter 'm'. Write a [[meter]] with that name"
    wrong = BALANCE["feeder"] + meters(("m", "pv"))
    assert problems(NODE + wrong) == [
        "5: feeder.meter: the meter 'm' is of role pv, not grid. Write role = \"grid\" there, or name another"
    ]


def test_a_closed_network_and_its_ports() -> None:
    text = NODE + "[mqtt]\ntls_port = 9000\nread_port = 1884\n[network]\nclosed = true\n"
    read = parse(text, "grid.toml")
    assert (read.mqtt.tls_port, read.mqtt.read_port, read.network.closed) == (9000, 1884, True)
    usual = parse(NODE, "grid.toml")
    assert (usual.mqtt.tls_port, usual.mqtt.read_port, usual.network.closed) == (8883, None, False)
    assert parse(NODE + "[mqtt]\nport = 8883\n", "grid.toml").mqtt.port == 8883  # of an open node, which has no other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mqtt]\nport = 1884\nread_port = 1884\n", "mqtt.read_port: port is 1884, too. Give each a port of its own"),
        ("[mqtt]\nport = 9000\ntls_port = 9000\n", "mqtt.tls_port: port is 9000, too. Give each a port of its own"),
        ("[mqtt]\ntls_port = 9000\nread_port = 9000\n", "mqtt.read_port: tls_port is 9000, too. Give each a port of its own"),
        ("[mqtt]\nport = 8883\n[network]\nclosed = true\n", "mqtt.tls_port: port is 8883, too. Give each a port of its own"),
        ("[network]\nclosed = 1\n", "network.closed: must be true or false, not 1."),
        ("[mqtt]\ntls_port = 0\n", "mqtt.tls_port: must be a whole number from 1 to 65535, not 0."),
    ],
)
def test_ports_that_are_taken_twice(text: str, expected: str) -> None:
    (found,) = problems(NODE + text)
    assert expected in found
