"""What is said of a wrong configuration: all at once, each with its line, its key and the way out."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import json
from pathlib import Path

import pytest
from config_texts import METER, MODELS, NODE, problems

from agent.address import to_address
from agent.config import ConfigError, load, parse


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
        (
            NODE.replace("1000", "17.250"),  # thousands, as half of Europe writes them
            ["3: node.rated_w: must be a whole number from 1 to 100000000 (W), not 17.250. Write rated_w = 17250"],
        ),
        (
            NODE.replace("1000", "17.25"),
            ["3: node.rated_w: must be a whole number from 1 to 100000000 (W), not 17.25. Write rated_w = 17"],
        ),
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
