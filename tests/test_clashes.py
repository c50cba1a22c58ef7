"""What contradicts itself in a configuration: meters, loads, prices, ports, and who refers to which meter."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import pytest
from config_texts import BALANCE, LOAD, MODELS, NODE, problems

from agent import config
from agent.config import parse

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
