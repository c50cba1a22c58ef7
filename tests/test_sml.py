"""SML: telegrams made by a small encoder, numbers by hand; then real meters' bytes."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sml_telegrams import (
    HZ,
    IN,
    NEW_IN,
    NEW_OUT,
    NEW_SLEEPY,
    OLD_IN,
    OLD_OUT,
    OUT,
    POWER,
    VA,
    WH,
    A,
    V,
    W,
    entry,
    number,
    octets,
    read,
    seconds,
    telegram,
    u,
    watts,
    wh,
)

from drivers.sml import LOCKED, Sml

FIXTURES = Path(__file__).parent.parent.parent / "shared" / "fixtures" / "sml"


# ---- quantities, arithmetic by hand


@pytest.mark.parametrize(
    ("entries", "values"),
    [
        # 123456 * 10^-1 Wh = 12345.6 -> 12346; 0.7 -> 1
        ((wh(IN, 123456), wh(OUT, 7), watts(POWER, -1234)), {"w": -1234, "import_wh": 12346, "export_wh": 1}),
        ((watts(POWER, 12345, 3, -2),), {"w": 123}),  # 123.45
        ((watts(POWER, 5, 1, -1),), {"w": 0}),  # 0.5, half to even
        ((watts(POWER, 15, 1, -1),), {"w": 2}),  # 1.5
        ((watts(POWER, -3, 1, 3),), {"w": -3000}),
        # the eight bytes that no float holds: (2^53 + 1) * 10^-1 = 900719925474099.3
        ((watts(POWER, 0), wh(IN, 10**15 - 1)), {"w": 0, "import_wh": 10**14}),  # 99999999999999.9
        (
            (watts(POWER, 168), watts("36.7.0", 117), watts("56.7.0", 22), watts("76.7.0", 29)),
            {"w": 168, "w_l1": 117, "w_l2": 22, "w_l3": 29},
        ),
        (
            (watts("36.7.0", 1175, 4, -1), watts("56.7.0", -225, 4, -1), watts("76.7.0", 5, 4, -1)),
            {"w": 96, "w_l1": 118, "w_l2": -22, "w_l3": 0},  # the sum is rounded once: 117.5 - 22.5 + 0.5 = 95.5
        ),
        (
            (
                watts(POWER, 1),
                entry("32.7.0", u(2323, 2), V, -1),
                entry("52.7.0", u(231, 2), V),
                entry("72.7.0", u(23256, 2), V, -2),
            ),
            {"w": 1, "v_l1": 232.3, "v_l2": 231.0, "v_l3": 232.6},
        ),
        (
            (watts(POWER, 1), entry("31.7.0", u(106), A, -2), entry("51.7.0", u(174), A, -2), entry("71.7.0", u(9), A, -1)),
            {"w": 1, "a_l1": 1.06, "a_l2": 1.74, "a_l3": 0.9},
        ),
        ((watts(POWER, 1), entry("14.7.0", u(4998, 2), HZ, -2)), {"w": 1, "hz": 49.98}),
        # tariffs make the total only where it is not listed: 100.4 + 20.3 = 120.7
        ((watts(POWER, 1), wh("1.8.1", 1004), wh("1.8.2", 203)), {"w": 1, "import_wh": 121}),
        (
            (watts(POWER, 1), wh(IN, 9990), wh("1.8.1", 1004), wh("1.8.2", 203), wh("2.8.1", 50)),
            {"w": 1, "import_wh": 999, "export_wh": 5},
        ),
        # of another unit, of the past, a text
        (
            (watts(POWER, 1), entry(IN, u(5, 2), VA, 0), entry(OUT, u(5, 2), WH, 0, f=1), entry("96.1.0", octets(b"x" * 40))),
            {"w": 1},
        ),
    ],
)
def test_values_by_hand(entries, values):
    reading = read(telegram(*entries))
    assert (reading.quality, reading.why, reading.values) == ("good", "", values)


@pytest.mark.parametrize(
    ("entries", "w", "why"),
    [
        ((wh(IN, 10, OLD_IN), watts("15.7.0", 1371, 4, -1)), 137, ""),
        ((wh(IN, 10, OLD_OUT), watts("15.7.0", 1371, 4, -1)), -137, ""),
        ((wh(IN, 10, NEW_IN), watts("15.7.0", 80)), 80, ""),
        ((wh(IN, 10, NEW_OUT), watts("15.7.0", 80)), -80, ""),
        ((wh(OUT, 10, OLD_OUT), watts("15.7.0", 80)), -80, ""),
        ((wh(IN, 10), watts("15.7.0", 80)), None, "without direction"),
        ((watts("1.7.0", 900), watts("2.7.0", 0)), 900, ""),
        ((watts("1.7.0", 0), watts("2.7.0", 900)), -900, ""),
        ((watts("1.7.0", 900), wh(IN, 1), wh(OUT, 1)), 900, ""),
        ((watts("1.7.0", 0), wh(IN, 1)), 0, ""),
        ((watts("1.7.0", 0), wh(IN, 1), wh(OUT, 1)), None, "it may be exporting"),
        ((watts("2.7.0", 900), wh(OUT, 1)), -900, ""),
        ((watts("2.7.0", 0), wh(OUT, 1)), 0, ""),
        ((watts("2.7.0", 0), wh(IN, 1), wh(OUT, 1)), None, "it may be importing"),
        ((watts("1.7.1", -56321916, 4, -4), wh("2.8.1", 1)), -5632, ""),
        ((watts("36.7.0", 55),), 55, ""),
        ((watts("36.7.0", 55), watts("56.7.0", 5)), 60, ""),
        ((watts("15.7.0", 80), watts("36.7.0", -80), wh(IN, 10, OLD_OUT)), -80, ""),
        # today's status against a power without sign, above the starting current
        ((wh(IN, 10, NEW_OUT), watts(POWER, 80)), None, "its power has no sign"),
        ((wh(IN, 10, NEW_OUT), watts(POWER, -80)), -80, ""),
        ((wh(IN, 10, NEW_SLEEPY), watts(POWER, 3)), 3, ""),
        ((wh(IN, 10, OLD_OUT), watts(POWER, 80)), 80, ""),
    ],
)
def test_where_power_comes_from(entries, w, why):
    reading = read(telegram(*entries))
    assert reading.values.get("w") == w
    assert reading.quality == ("suspect" if why else "good")
    assert why in reading.why


def test_a_locked_meter_says_what_to_do_and_keeps_its_counters():
    reading = read(telegram(wh(IN, 1234560), wh(OUT, 0)))
    assert (reading.quality, reading.why, reading.values) == ("absent", LOCKED, {"import_wh": 123456, "export_wh": 0})
    assert "PIN" in LOCKED
    assert read(telegram(entry(POWER, number(5), VA, 0))).quality == "absent"  # volt-amperes are no watts


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (watts("36.7.0", 2, 4, 6), "w_l1 reads 2e+06, outside -1000000 to 1000000"),
        (entry("32.7.0", u(501, 2), V, 0), "v_l1 reads 501, outside 0 to 500"),
        (entry("14.7.0", u(5, 2), HZ, 0), "hz reads 5, outside 40 to 70"),
        (entry(IN, number(-1), WH, 0), "import_wh reads -1, outside 0"),
        (entry("31.7.0", u(3000, 2), A, 0), "a_l1 reads 3000"),
    ],
)
def test_the_impossible_is_suspect(bad, why):
    reading = read(telegram(watts(POWER, 1), bad))
    assert reading.quality == "suspect"
    assert reading.why.startswith(why)


# ---- a status against the counter that moves, and DZG


def test_an_absolute_power_is_doubted_while_the_other_counter_rises():
    def at(second, status, tenths_in, tenths_out):
        return telegram(wh(IN, tenths_in, status), wh(OUT, tenths_out), watts("15.7.0", 800), second=seconds(second))

    assert read(at(10, OLD_IN, 50, 50), at(11, OLD_IN, 52, 50)).values["w"] == 800
    assert read(at(10, OLD_OUT, 50, 50), at(11, OLD_OUT, 50, 52)).values["w"] == -800
    for status, import_, export in ((OLD_OUT, 52, 50), (OLD_IN, 50, 52)):
        reading = read(at(10, status, 50, 50), at(11, status, import_, export))
        assert (reading.quality, "w" in reading.values) == ("suspect", False)
        assert "the other direction" in reading.why
    assert read(at(10, OLD_OUT, 50, 50), at(11, OLD_OUT, 52, 51)).values["w"] == -800  # both rose: it turned just now
    assert (
        read(at(10, OLD_OUT, 50, 50), at(11, OLD_OUT, 52, 50), at(15, OLD_OUT, 54, 50)).values["w"] == -800
    )  # a gap tells nothing


def dzg(second, raw, size=2, status=NEW_IN, tenths_in=100, tenths_out=0, serial=42_082_910, obis=POWER):
    server = bytes.fromhex("0a01445a4700") + serial.to_bytes(4, "big")
    power = entry(obis, number(raw, size), W, -2)
    return telegram(wh(IN, tenths_in, status), wh(OUT, tenths_out), power, server=server, second=seconds(second))


# 53 80 25: 0x8025 = 32805 -> 328.05 W without a sign, -32731 -> -327.31 W with one
ALIKE = 0x8025 - 0x10000


def test_a_dzg_value_that_can_be_two_is_suspect_until_the_counter_of_import_moves():
    first, moved = dzg(10, ALIKE), dzg(11, ALIKE, tenths_in=101)
    reading = read(first)
    assert (reading.quality, reading.values) == ("suspect", {"import_wh": 10, "export_wh": 0})
    assert "its counters do not tell" in reading.why
    assert read(first, moved).values == {"w": 328, "import_wh": 10, "export_wh": 0}
    assert read(first, moved, dzg(14, ALIKE, tenths_in=101)).values["w"] == 328  # 3 s later still
    assert read(first, moved, dzg(13, ALIKE, tenths_in=101), dzg(15, ALIKE, tenths_in=101)).quality == "suspect"
    assert read(first, dzg(11, ALIKE, tenths_in=101, tenths_out=1)).quality == "suspect"
    assert read(first, dzg(11, ALIKE, tenths_out=1)).quality == "suspect"
    assert read(first, dzg(20, ALIKE, tenths_in=101)).quality == "suspect"
    assert read(first, dzg(9, ALIKE, tenths_in=101)).quality == "suspect"
    assert read(first, dzg(11, ALIKE, tenths_in=101, serial=42_082_911)).quality == "suspect"  # another meter's counter
    assert read(first, dzg(11, ALIKE, tenths_in=101, status=OLD_IN)).quality == "suspect"  # that status does not tell the direction


def test_a_dzg_that_says_it_exports_is_believed():
    assert read(dzg(10, ALIKE, status=NEW_OUT)).values["w"] == -327
    assert read(dzg(10, -31064, status=NEW_OUT, serial=40_051_478)).values["w"] == -311


@pytest.mark.parametrize(
    ("how", "w"),
    [
        ({"raw": 0x7FFF}, 328),  # 327.67: room for the sign
        ({"raw": 21599, "size": 3}, 216),
        ({"raw": -91516, "size": 3}, -915),  # 0xFE9A84: without a sign 166856.96 W, more than any connection carries
        ({"raw": -91516, "size": 4}, -915),
        ({"raw": ALIKE, "serial": 60_000_000}, -327),  # mended
        ({"raw": ALIKE, "serial": 41_999_999}, -327),  # other models
        ({"raw": ALIKE, "serial": 60_694_611}, -327),
    ],
)
def test_a_dzg_value_that_can_be_only_one(how, w):
    assert read(dzg(10, **how)).values["w"] == w


def test_phases_of_a_dzg():
    server = bytes.fromhex("0a01445a4700") + (50_071_463).to_bytes(4, "big")

    def at(second, tenths, *powers):
        return telegram(wh(IN, tenths, u(0x040104, 4)), *powers, server=server, second=seconds(second))

    sole = watts("36.7.0", -14836, 2, -2)  # 53 c6 0c: 50700 -> 507.00 W (vzlogger issue 544)
    assert read(at(10, 5, sole)).quality == "suspect"
    assert read(at(10, 5, sole), at(11, 6, sole)).values == {"w": 507, "import_wh": 1}
    three = (sole, watts("56.7.0", 100, 2, -2), watts("76.7.0", 100, 2, -2))
    assert (read(at(10, 5, *three)).quality, read(at(10, 5, *three)).values) == ("suspect", {"w_l2": 1, "w_l3": 1, "import_wh": 0})
    assert read(at(10, 5, watts(POWER, 50), sole)).values == {"w": 50, "import_wh": 0}


# ---- properties


@given(
    st.integers(-(10**8), 10**8),
    st.integers(-4, 2),
    st.integers(0, 2**46),
    st.integers(-2, 2),
    st.binary(max_size=40),
    st.booleans(),
)
def test_what_is_sent_is_read(raw, scaler, counter, counter_scaler, noise, kermit):
    text = entry("96.1.0", octets(noise))
    data = telegram(text, entry(IN, u(counter, 8), WH, counter_scaler), watts(POWER, raw, 5, scaler), kermit=kermit)
    reading = read(data)
    w, import_wh = raw * Fraction(10) ** scaler, counter * Fraction(10) ** counter_scaler
    assert reading.values == {"w": round(w), "import_wh": round(import_wh)}
    assert reading.quality == ("good" if abs(w) <= 10**6 and import_wh <= 10**14 else "suspect")


# ---- real meters

REAL = {
    "DZG_DVS-7420.2V.G2_mtr0": (1, {"w": 216, "import_wh": 607447, "export_wh": 1266729}),
    "DZG_DVS-7420.2V.G2_mtr1": (4, {"w": 6, "import_wh": 2353657, "export_wh": 0}),
    "EMH-ED300L_consumption": (1, {"w": 137, "import_wh": 17243368}),
    "EMH_eHZ-HW8E2A5L0EK2P": (12, {"w": 164, "import_wh": 8391649}),
    "EMH_eHZ-HW8E2A5L0EK2P_1": (12, {"w": 1213, "import_wh": 15141809}),
    "EMH_eHZ-HW8E2A5L0EK2P_2": (1, {"w": 139, "import_wh": 13312485}),
    "EMH_eHZ-HW8E2AWL0EK2P": (13, {"w": 192, "import_wh": 5378499}),
    "EMH_eHZ-IW8E2AWL0EK2P": (12, {"w": 0, "import_wh": 5598065}),
    "EMH_eHZ361L5R": (1, {"w": -5632, "export_wh": 110340315}),
    "HOLLEY_DTZ541-BDBA_with_PIN": (2, {"w": 376, "import_wh": 2355929}),
    "HOLLEY_DTZ541-ZDBA": (
        7,
        {"w": 460, "v_l1": 232.3, "v_l2": 232.5, "v_l3": 232.5, "a_l1": 1.06, "a_l2": 1.74, "a_l3": 0.91}
        | {"hz": 50.0, "import_wh": 177360, "export_wh": 314926},
    ),
    "ISKRA_MT175_eHZ": (10, {"w": 168, "w_l1": 117, "w_l2": 22, "w_l3": 29, "import_wh": 22462414}),
    "ISKRA_MT631-D1A52-K0z-H01_with_PIN": (5, {"w": 193, "import_wh": 2043105, "export_wh": 0}),
    "ISKRA_MT691_eHZ-MS2020": (18, {"w": 26, "import_wh": 198927}),
    "ITRON_OpenWay-3.HZ": (1, {"w": 613, "import_wh": 8189595}),
    "ITRON_OpenWay-3.HZ_with_PIN": (5, {"w": 542, "import_wh": 25892776}),
    "dzg_dwsb20_2th_2byte": (15, {"w": -311, "import_wh": 142439, "export_wh": 2017198}),
}


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="recordings of real meters are not shipped")
@pytest.mark.parametrize("name", REAL)
def test_a_real_meter(name):
    data = (FIXTURES / f"{name}.bin").read_bytes()
    ear = Sml(trusting=True)
    readings = ear.feed(data)
    count, first = REAL[name]
    assert (len(readings), readings[0].values, ear.damaged) == (count, first, 0)
    assert {reading.quality for reading in readings} == {"good"}
    assert Sml().feed(data) == readings[1:]  # all that follow the first
    single = Sml(trusting=True)
    assert [reading for i in range(0, len(data), 11) for reading in single.feed(data[i : i + 11])] == readings


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="recordings of real meters are not shipped")
@settings(deadline=None)
@given(st.sampled_from(sorted(REAL)), st.integers(0, 600))
def test_a_real_stream_joined_anywhere(name, skip):
    data = (FIXTURES / f"{name}.bin").read_bytes()
    whole, joined = Sml(trusting=True).feed(data), Sml(trusting=True).feed(data[skip:])
    assert joined == whole[len(whole) - len(joined) :]
