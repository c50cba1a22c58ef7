"""register_meter.py: what is asked for and when, what is kept, and when watts are believed."""

import pytest
from units import PATIENCE_S, TRUE, answer, enveloped, framed, image, serial, tcp, well

from drivers.catalog import find
from drivers.modbus import Bus, Line
from drivers.register_meter import Meter
from drivers.registers import MapError, words_of


@pytest.mark.parametrize("turned", [False, True])
def test_flip_is_the_installers_word(turned):
    with serial(well, timeout_s=PATIENCE_S, flip=turned) as (_, _, meter):
        values = meter.read(0.0).values
        assert (values["w"], values["export_wh"]) == ((-1000, 5000) if turned else (1000, 0))


def test_slow_values_are_kept_for_ten_seconds_and_dropped_when_they_fail():
    state = {"export_wh": 1, "dead": False}

    def script(request, n):
        if state["dead"] and request[2:4] != b"\x00\x0c":
            return []
        return [(0, framed(answer(request, image(export_wh=state["export_wh"] * 1000))))]

    with serial(script) as (device, _, meter):
        assert meter.read(0.0).values["export_wh"] == 1000
        state["export_wh"] = 2
        assert meter.read(9.0).values["export_wh"] == 1000
        assert len(device.requests) == 4
        assert meter.read(10.0).values["export_wh"] == 2000
        state["dead"] = True
        reading = meter.read(20.0)
        assert (reading.quality, reading.values) == ("good", {"w": 1000})
        state["dead"] = False
        assert meter.read(21.0).values == {"w": 1000}
        assert meter.read(22.0).values["export_wh"] == 2000


def test_watts_are_suspect_until_the_volts_have_proved_the_map():
    dead = [True]
    with serial(lambda request, n: [] if dead[0] and request[2:4] != b"\x00\x0c" else well(request, n)) as (_, _, meter):
        reading = meter.read(0.0)
        assert reading.quality == "suspect"
        assert "v_l1 and hz were never read" in reading.why
        assert "no answer within" in reading.why
        assert meter.read(1.0).quality == "suspect"
        dead[0] = False
        assert meter.read(2.0).quality == "good"


def test_swapped_words_are_suspect_for_as_long_as_they_are_not_read_well():
    swapped = {address: image()[address ^ 1] for address in image()}
    with serial(lambda request, n: [(0, framed(answer(request, swapped)))], timeout_s=PATIENCE_S) as (_, _, meter):
        for second in range(3):
            reading = meter.read(float(second))
            assert reading.quality == "suspect"
            assert 'try word_order = "little"' in reading.why


def test_an_optional_register_that_is_refused_is_not_asked_for_again():
    map_ = find("abb-b2x")
    held = image(map_, **{name: 230 if name[0] == "v" else 0 for name in map_.regs if name not in TRUE})

    def script(request, n):
        if request[2:4] == b"\x50\x04":
            return [(0, framed(bytes([1, 0x83, 2])))] if n < 9 else []
        return [(0, framed(answer(request, held)))]

    with serial(script, map_=map_) as (device, _, meter):
        values = meter.read(0.0).values
        assert values["import_wh"] == 5000
        assert "export_wh" not in values
        meter.read(20.0)
        assert sum(request[2:4] == b"\x50\x04" for request in device.requests) == 1


def test_a_silent_optional_register_costs_its_own_value_only():
    map_ = find("abb-b2x")
    held = image(map_, **{name: 230 if name[0] == "v" else 0 for name in map_.regs if name not in TRUE})
    with serial(lambda request, n: [] if request[2:4] == b"\x50\x04" else [(0, framed(answer(request, held)))], map_=map_) as (
        _,
        _,
        meter,
    ):
        reading = meter.read(0.0)
        assert reading.quality == "suspect"  # the phases hold 0 W, the total 1000 W
        assert reading.values["v_l3"] == 230.0
        assert "export_wh" not in reading.values


# ---- TCP


def test_watts_are_suspect_until_model_and_setting_are_right():
    em24, ident, application = find("gavazzi-em24-e1"), [340], [0]
    shown = dict.fromkeys(em24.regs, 0) | {"w": -1234, "w_l1": -1234, "v_l1": 230, "hz": 50}

    def script(request, n):
        fc, address = request[7], int.from_bytes(request[8:10], "big")
        words = words_of(em24, shown) | {"ident": ident, "require": application}
        held = {reg.address + i: word for name, reg in em24.regs.items() if reg.fc == fc for i, word in enumerate(words[name])}
        asked.append((fc, address))
        return enveloped(request, answer(request[6:], held))

    asked = []
    with tcp(script, map_=em24) as (_, _, meter):
        reading = meter.read(0.0)
        assert (reading.quality, reading.values["w"]) == ("suspect", -1234)
        assert "ident (register 0x000B) reads 340" in reading.why
        assert "set the EM24's application to H" in reading.why
        ident[0] = 1650
        assert "ident" in meter.read(9.0).why
        assert "ident" not in meter.read(10.0).why
        application[0] = 7
        reading = meter.read(20.0)
        assert (reading.quality, reading.why) == ("good", "")
        assert not {"ident", "require"} & set(reading.values)
        assert asked.count((3, 0x000B)) == asked.count((3, 0xA000)) == 2 + 1 + 2  # suspect ones are looked at twice


def test_a_model_that_is_not_read_by_registers_is_refused():
    with pytest.raises(MapError, match="p1 speaks p1, which is not read by registers; give the model of a Modbus meter"):
        Meter(Bus(Line("127.0.0.1", 502, None)), find("p1"), 1)


def test_a_meter_that_gives_all_at_once_is_asked_once():
    pzem = find("peacefair-pzem004t-v3")
    frame = bytes.fromhex("010414 08D1 006C0000 00F40000 00260000 01F4 0064 0000 5134")  # ESPHome, Tasmota
    with serial(lambda request, n: [(0, framed(frame[:2] + b"\x12" + frame[3:21]))], map_=pzem) as (device, _, meter):
        values = {"w": 24, "v_l1": 225.7, "a_l1": 0.108, "hz": 50.0, "pf": 1.0, "import_wh": 38}
        assert (meter.read(0.0).values, meter.read(0.0).quality) == (values, "good")
        assert [request[:6].hex() for request in device.requests] == ["010400000009"] * 2
