"""A pretend battery: energy, limits, droop and timer by hand, and every write that is not for it refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.faults import Request
from drivers.registers import Write
from drivers.simulated_battery import DELAY_S, FAULTS, PretendBattery

CONTROLS = ("sunspec-124", "sunspec-704")
AT = {"sunspec-124": 40002 + 68 + 52 + 28, "sunspec-704": 40002 + 68 + 155 + 52}  # behind 1, then 103 and 120, or 701 and 702


def asked(pretend, now, *pdu):
    """The function code and what follows of the answer on a serial line; nothing for silence."""
    sends = pretend.answer(Request(pretend.unit, bytes(pdu)), now)
    return sends[0].data[1:-2] if sends else b""


def write(pretend, now, at, *words):
    one = Write(AT[pretend.control] + at, words, "")
    body = b"".join(word.to_bytes(2, "big") for word in one.words)
    return asked(pretend, now, 16, *one.address.to_bytes(2, "big"), 0, one.count, len(body), *body)


def order(pretend, now, watts, revert_s=60):
    """What our own driver would write, by hand: percents of 5000 W in hundredths, or watts."""
    if pretend.control == "sunspec-124":
        write(pretend, now, 15, revert_s)
        write(pretend, now, 12, 2 * watts & 0xFFFF, -2 * watts & 0xFFFF)
        write(pretend, now, 5, 3)
    else:
        write(pretend, now, 30, 0, 0, revert_s)
        write(pretend, now, 23, 1, watts >> 16 & 0xFFFF, watts & 0xFFFF)
        write(pretend, now, 22, 1)


@pytest.mark.parametrize("control", CONTROLS)
def test_energy_by_hand(control):
    pretend = PretendBattery(control, energy_wh=1000, soc_wh=500)
    order(pretend, 0.0, 3600, 3600)
    assert pretend.watts(0.0) == 3600
    assert pretend.soc_wh(100.0) == pytest.approx(400)  # 3600 W are 1 Wh a second
    assert pretend.soc_wh(499.0) == pytest.approx(1)
    assert (pretend.soc_wh(600.0), pretend.watts(600.0)) == (0, 0)  # empty
    order(pretend, 600.0, -1800, 3600)
    assert pretend.watts(600.0) == -1800
    assert pretend.soc_wh(800.0) == pytest.approx(100)
    assert (pretend.soc_wh(2700.0), pretend.watts(2700.0)) == (1000, 0)  # full
    assert pretend.soc_wh(50.0) == 1000  # a clock that goes back changes nothing


@pytest.mark.parametrize("control", CONTROLS)
def test_the_timer_lets_go_on_its_second_whenever_somebody_looks(control):
    for looks in ([59.9, 60.0], [10.0, 59.9, 61.0]):
        pretend = PretendBattery(control, energy_wh=10_000, soc_wh=5000)
        order(pretend, 0.0, 3600)
        assert [pretend.watts(now) for now in looks] == [*[3600.0] * (len(looks) - 1), 0.0]
        assert pretend.soc_wh(3600.0) == pytest.approx(4940)  # 60 Wh were given, and no more
    order(pretend, 4000.0, 3600)
    order(pretend, 4050.0, 3600)  # written again in time
    assert (pretend.watts(4109.0), pretend.watts(4110.0)) == (3600, 0)


@given(st.lists(st.tuples(st.integers(-9000, 9000), st.floats(0, 900)), max_size=12), st.sampled_from(CONTROLS))
def test_it_never_gives_more_than_its_rating_nor_energy_that_it_has_not(orders, control):
    pretend, now = PretendBattery(control, energy_wh=400, soc_wh=200), 0.0
    for watts, after_s in orders:
        order(pretend, now, watts, 300)
        now += after_s
        assert abs(pretend.watts(now)) <= 5000
        assert 0 <= pretend.soc_wh(now) <= 400


def test_droop_and_frequency_by_hand():
    pretend = PretendBattery("sunspec-704", hz=lambda now: {0.0: 50.0, 1.0: 49.3, 2.0: 50.7, 3.0: 45.0}[now], droop_w_per_hz=2000)
    order(pretend, 0.0, 400)
    # 0.5 Hz below 49.8 and above 50.2: 1000 W more and less; 4.8 Hz are 9600 W, and 5000 are its rating
    assert [pretend.watts(now) for now in (0.0, 1.0, 2.0, 3.0)] == [400, 1400, -600, 5000]


@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_not_for_it_is_refused(control):
    pretend = PretendBattery(control)
    assert write(pretend, 0.0, 2, 9999) == bytes([0x90, 2])  # its rating
    assert asked(pretend, 0.0, 6, 0, 0, 0, 1) == bytes([0x86, 2])
    assert asked(pretend, 0.0, 4, 0, 0, 0, 1) == bytes([0x84, 1])
    assert asked(pretend, 0.0, 3, 0, 0, 0, 1) == bytes([0x83, 2])
    assert asked(pretend, 0.0, 3, 0x9C, 0x40, 0, 126) == bytes([0x83, 3])
    assert asked(pretend, 0.0, 3, 0x9C, 0x40, 0, 2) == b"\x03\x04SunS"
    assert pretend.writes == []
    assert pretend.answer(Request(2, b"\x03\x9c\x40\x00\x02"), 0.0) == []
    over_tcp = pretend.answer(Request(2, b"\x03\x9c\x40\x00\x02", 1), 0.0)
    assert over_tcp[0].data[-2:] == bytes([0x83, 11])
    at = AT[control] + (5 if control == "sunspec-124" else 23)
    assert asked(pretend, 0.0, 6, at >> 8, at & 0xFF, 0, 1) == bytes([6, at >> 8, at & 0xFF, 0, 1])  # one register alone
    assert len(pretend.writes) == 1


# watts at once, and a second after they were written
FAULTY = {
    "refuses": (0, 0),
    "ignores": (0, 0),
    "clips": (500, 500),
    "delays": (0, 1000),
    "lies": (-1000, -1000),
    "no-timer": (1000, 1000),
    "mute": (1000, 1000),
    "disobeys": (0, 0),
    "dead": (0, 0),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_by_hand(fault, control):
    pretend = PretendBattery(control)
    pretend.fault = fault
    order(pretend, 0.0, 1000)
    assert (pretend.watts(0.0), pretend.watts(DELAY_S + 0.2)) == FAULTY[fault]
    assert pretend.watts(1000.0) == (1000 if fault == "no-timer" else 0)
    answered = asked(pretend, 1001.0, 3, 0x9C, 0x40, 0, 2)
    assert answered == (b"" if fault == "dead" else b"\x03\x04SunS")
    assert (write(pretend, 1002.0, 15 if control == "sunspec-124" else 22, 0) == b"") == (fault in ("mute", "dead"))
