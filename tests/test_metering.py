"""What is behind each [[meter]]: which driver, which line, which direction; and which settings no meter can have."""

import pytest

from agent.config import parse
from agent.metering import build, line_of, period_s
from drivers.modbus import Line
from drivers.reading import Reading
from drivers.register_meter import Meter
from drivers.registers import MapError
from drivers.sunspec_meter import SunSpecMeter

NODE = '[node]\nid = "x"\nrated_w = 1000\n'


def meters(*tables: str):
    """The [[meter]] tables of a configuration; each is named m1, m2, … and, unless it says so, of the role grid."""
    text = NODE
    for number, table in enumerate(tables, 1):
        role = "" if "role" in table else 'role = "grid"\n'
        text += f'[[meter]]\nname = "m{number}"\n{role}' + table.replace("; ", "\n") + "\n"
    return parse(text, "grid.toml").meters


def test_the_factory_settings_are_the_model_s():
    (one,) = meters('model = "eastron-sdm120"; port = "/dev/ttyUSB0"')
    assert line_of(one) == Line(None, None, "/dev/ttyUSB0", 2400, "8N1")
    (one,) = meters('model = "eastron-sdm120"; port = "/dev/ttyUSB0"; baud = 9600; framing = "8E1"')
    assert line_of(one) == Line(None, None, "/dev/ttyUSB0", 9600, "8E1")
    (one,) = meters('model = "abb-b2x"; host = "192.0.2.7"')
    assert line_of(one) == Line("192.0.2.7", 502, None)


def test_meters_of_one_wire_share_a_bus():
    wire = 'port = "/dev/ttyUSB0"; baud = 9600'
    built = build(
        meters(
            f'model = "eastron-sdm120"; {wire}; unit = 2',
            f'model = "abb-b2x"; {wire}',
            'model = "sunspec"; host = "h"; every_s = 2',
        )
    )
    (bus, polled), (other, alone) = built.lines.values()
    assert [(one.name, one.every_s) for one in polled] == [("m1", 1.0), ("m2", 1.0)]
    assert bus.units == {1, 2}
    assert [type(one.meter) for one in polled] == [Meter, Meter]
    assert [(type(one.meter), one.every_s) for one in alone] == [(SunSpecMeter, 2.0)]
    assert other is not bus
    assert (built.told, built.counted) == ([], [])


@pytest.mark.parametrize(("role", "which"), [("grid", "meter"), ("load", "meter"), ("pv", "inverter"), ("battery", "storage")])
def test_a_sunspec_device_shows_what_its_role_asks_for(role, which):
    (_, (one,)) = next(iter(build(meters(f'model = "sunspec"; host = "h"; role = "{role}"')).lines.values()))
    assert one.meter.which == which


@pytest.mark.parametrize("model", ["p1", "sml", "tic"])
def test_those_that_talk(model):
    configs = meters(f'model = "{model}"; port = "/dev/ttyUSB1"', f'model = "{model}"; host = "gateway"; tcp_port = 2000')
    one, two = build(configs).told
    assert type(one.reader).__name__.lower() == model
    assert (one.line.port, two.line.host, two.line.tcp_port) == ("/dev/ttyUSB1", "gateway", 2000)
    assert period_s(configs[0]) == 10.0
    assert one.feed(b"noise", 1.0) == []
    assert one.reader is not two.reader


def test_meters_behind_one_gateway_share_its_connection():
    """Their factory baud rates differ; the gateway has its own."""
    gateway = 'host = "h"; tcp_port = 5020'
    assert len(build(meters(f'model = "eastron-sdm120"; {gateway}', f'model = "eastron-sdm230"; unit = 2; {gateway}')).lines) == 1


def test_one_that_pulses():
    (load, roof) = build(
        meters(
            'model = "s0"; role = "load"; pin = 17; imp_per_kwh = 800', 'model = "s0"; role = "pv"; pin = 18; imp_per_kwh = 1000'
        )
    ).counted
    assert (load.pin, load.imp_per_kwh, load.flip) == (17, 800, False)
    reading = Reading("good", "", {"w": 700, "import_wh": 5})
    assert load.judged(reading, 1.0).values == {"w": 700, "import_wh": 5}
    assert roof.judged(reading, 1.0).values == {"w": -700, "export_wh": 5}  # a meter without direction has its role's


def test_readings_are_judged_and_turned():
    (told,) = build(meters('model = "p1"; port = "/dev/ttyUSB1"; flip = true; rated_w = 500')).told
    assert told.flip
    assert told.plausible.rated_w == 500


WRONG = [
    ('model = "s0"; role = "grid"; pin = 17; imp_per_kwh = 9', "cannot tell taking from giving, so that it cannot measure a grid"),
    ('model = "peacefair-pzem004t-v3"; role = "battery"; port = "p"', "so that it cannot measure a battery"),
    ('model = "peacefair-pzem004t-v3"; role = "pv"; port = "p"; flip = true', "has no direction that flip could turn"),
    ('model = "s0"; role = "load"; pin = 17', "needs pin = 17 (the BCM number) and imp_per_kwh = 1000"),
    ('model = "s0"; role = "load"; port = "p"; imp_per_kwh = 9', "an S0 meter is on a pin"),
    ('model = "eastron-sdm120"; pin = 17', "pin and imp_per_kwh are of an S0 meter, and eastron-sdm120 is none"),
    ('model = "eastron-sdm120"; port = "p"; imp_per_kwh = 5', "pin and imp_per_kwh are of an S0 meter"),
    ('model = "p1"; host = "gateway"', "does not talk on port 502: write its tcp_port"),
    ('model = "p1"; port = "p"; unit = 1', "has no unit: remove it"),
    ('model = "nonsuch"; port = "p"', "no meter model 'nonsuch'"),
]


@pytest.mark.parametrize(("table", "text"), WRONG)
def test_what_no_meter_can_be(table, text):
    with pytest.raises(MapError) as caught:
        build(meters(table))
    assert str(caught.value).startswith("meter 'm1': ")
    assert text in str(caught.value)


def test_a_line_is_one_talker_s_or_the_wire_of_some_that_are_asked():
    for pair in (
        ('model = "p1"; port = "p"', 'model = "sml"; port = "p"'),
        ('model = "p1"; port = "p"', 'model = "eastron-sdm120"; port = "p"'),
        ('model = "eastron-sdm120"; port = "p"', 'model = "p1"; port = "p"'),
        ('model = "p1"; host = "h"; tcp_port = 7', 'model = "sml"; host = "h"; tcp_port = 7'),
    ):
        with pytest.raises(MapError, match=r"^meter 'm2': \S+ is another meter's: one that talks"):
            build(meters(*pair))


def test_a_wire_has_one_baud_rate():
    with pytest.raises(
        MapError, match="meter 'm2': it would be read on p at 9600 8N1, another meter of the same wire on p at 2400"
    ):
        build(meters('model = "eastron-sdm120"; port = "p"', 'model = "eastron-sdm230"; port = "p"; unit = 2'))


def test_a_unit_is_one_meter_but_for_devices_that_are_several():
    wire = 'port = "p"; baud = 9600'
    with pytest.raises(MapError, match=r"meter 'm2': unit 1 on p at 9600 8N1 is the meter 'm1' already; each needs one of its own"):
        build(meters(f'model = "eastron-sdm630"; {wire}', f'model = "eastron-sdm230"; {wire}'))  # both leave the factory as unit 1
    inverter = 'host = "h"; unit = 1'
    build(meters(f'model = "huawei-sun2000-meter"; {inverter}', f'model = "huawei-sun2000-pv"; role = "pv"; {inverter}'))
    three = [f'model = "sunspec"; role = "{role}"; {inverter}' for role in ("grid", "pv", "battery")]
    assert [one.kind for _, polled in build(meters(*three)).lines.values() for one in polled] == ["meter", "inverter", "storage"]
    with pytest.raises(MapError, match="unit 1 on h:502 is the meter 'm2' already"):
        build(meters(*three[:2], three[1]))


def test_all_problems_come_at_once():
    with pytest.raises(MapError) as caught:
        build(meters('model = "p1"; host = "h"', 'model = "abb-b2x"; host = "h"', 'model = "s0"; pin = 4; imp_per_kwh = 4'))
    assert [line[:10] for line in str(caught.value).splitlines()] == ["meter 'm1'", "meter 'm3'"]
