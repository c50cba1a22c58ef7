"""A battery's set-points: what is written when, and one that does not listen is left alone."""

import struct

import pytest

from agent.events import PointSet, SetPoint
from agent.follow import AGAIN_S, OFF_S, PROOF_S, RAMP_S, TRIAL_S, Look
from agent.offer import Battery
from agent.steer import ANSWER_S, Steer
from drivers.battery import Battery as Driver
from drivers.faults import Request
from drivers.modbus import Refusal
from drivers.simulated_battery import PretendBattery

BATTERY = Battery("cellar", 3000, 10_000, written=True)


def point(watts: int) -> SetPoint:
    return SetPoint("cellar", watts, 60)


def good(watts: int) -> PointSet:
    return PointSet("cellar", watts, "")


BAD = PointSet("cellar", 0, "it holds 5 W")


def test_written_read_back_and_renewed_in_time():
    steer = Steer(BATTERY)
    assert steer.step(1000, 0.0) == point(1000)
    assert steer.applied_w == 0  # not before it is read back
    assert steer.step(2000, 1.0) is None  # one at a time
    assert steer.answer(good(1000), 1.2) == ""
    assert steer.applied_w == 1000
    assert steer.step(1049, 1.3) is None  # within the deadband of 50 W
    assert steer.step(1050, 1.4) == point(1050)
    steer.answer(good(1050), 1.5)
    assert steer.step(1050, 21.3) is None
    assert steer.step(1050, 21.4) == point(1050)  # a third of the 60 s after which it would lapse
    assert steer.step(0, 21.5) is None  # no answer so far ...
    assert steer.step(0, 21.4 + ANSWER_S) == point(0)  # ... and none will come


def test_one_that_fails_once_is_told_again_and_one_that_fails_twice_left_alone():
    steer = Steer(BATTERY)
    steer.step(1000, 0.0)
    steer.answer(good(1000), 0.1)
    steer.step(2000, 1.0)
    assert steer.answer(BAD, 1.1) == ""
    assert (steer.trusted, steer.applied_w) == (True, 0)
    assert steer.step(2000, 1.2) == point(2000)
    assert steer.answer(BAD, 1.3) == "battery cellar: it holds 5 W. It is left to itself and tried again every 60 s"
    assert not steer.trusted
    assert [steer.step(2000, 1.3 + wait_s) for wait_s in (0.1, 30.0, 59.9)] == [None] * 3
    assert steer.step(2000, 61.3) == point(0)  # a trial with nothing
    steer.answer(BAD, 61.4)
    assert steer.step(2000, 100.0) is None
    assert steer.step(2000, 121.5) == point(0)
    assert steer.answer(good(0), 121.6) == ""
    assert steer.trusted
    assert steer.step(0, 121.7) == point(0)  # what it held was a trial
    steer.answer(good(0), 121.8)
    assert steer.step(2000, 121.9) == point(2000)


def test_fewer_watts_than_asked_for_is_no_disobedience():
    steer = Steer(BATTERY)
    steer.step(3000, 0.0)
    assert steer.answer(PointSet("cellar", 2500, "2500 W are all it can"), 0.1) == "battery cellar: 2500 W are all it can"
    assert (steer.trusted, steer.applied_w) == (True, 2500)


def test_how_full_it_is_nobody_knows():
    steer = Steer(BATTERY)
    steer.step(1000, 0.0)
    steer.answer(good(1000), 0.1)
    assert steer.step(None, 1.0) is None
    assert steer.applied_w == 0
    assert steer.stop() is None  # its own timer lets go
    assert steer.step(1000, 2.0) == point(1000)
    assert steer.stop() == point(0)
    steer.answer(good(1000), 2.1)
    steer.step(0, 3.0)
    assert steer.stop() is None


# one that reads back right and does not give it


class Wire:
    """A bus that is no more than a call."""

    line = "a wire"

    def __init__(self, pretend):
        self.pretend = pretend

    def expect(self, *_):
        pass

    settle = expect

    def ask(self, pdu, now):
        (send,) = self.pretend.answer(Request(1, pdu), now)
        answer = send.data[1:-2]  # without the unit and the checksum
        if answer[0] & 0x80:
            raise Refusal("refused", answer[1])
        return answer

    def read_block(self, unit, block, now):
        data = self.ask(struct.pack(">BHH", 3, block.address, block.count), now)[2:]
        return struct.unpack(f">{len(data) // 2}H", data)

    def write(self, unit, write, now):
        count = len(write.words)
        self.ask(struct.pack(f">BHHB{count}H", 16, write.address, count, 2 * count, *write.words), now)


class Cellar:
    """A pretend battery behind the real driver, steered once a second."""

    def __init__(self, control):
        self.pretend = PretendBattery(control, power_w=3000)
        self.driver = Driver(Wire(self.pretend), 1, control, 3000)
        self.steer, self.now, self.texts = Steer(BATTERY), 0.0, []

    def run(self, seconds, battery_w):
        """What the plan asks of it; nothing while it is not offered, as balance does."""
        for _ in range(int(seconds)):
            self.now += 1.0
            given_w, soc_pct = round(self.pretend.watts(self.now)), self.pretend.soc_wh(self.now) / 100
            self.steer.watch(Look(given_w, soc_pct, None, 50, False), self.now)
            point = self.steer.step(battery_w if self.steer.trusted else None, self.now)
            if point is not None:
                trouble = self.driver.set(point.watts, point.revert_s, self.now)
                self.steer.answer(PointSet("cellar", self.driver.watts, trouble), self.now)
            if self.steer.text not in self.texts[-1:]:
                self.texts.append(self.steer.text)
        return self


@pytest.mark.parametrize("control", ["sunspec-124", "sunspec-704"])
def test_one_that_holds_what_it_was_told_and_gives_nothing_is_found_out_left_alone_and_taken_back(control):
    cellar = Cellar(control).run(300, 1500)
    assert round(cellar.pretend.watts(cellar.now)) == 1500
    assert cellar.texts == [""]
    cellar.pretend.fault = "disobeys"
    cellar.run(OFF_S, 1500)
    assert (cellar.steer.trusted, cellar.steer.text) == (
        False,
        (
            "battery cellar does not follow: it holds 1500 W, and 0 W is what its meter shows. "
            "It is left to itself and tried again every 10 min. See what its inverter's own settings allow"
        ),
    )
    assert len(cellar.texts) == 2  # said once
    writes = len(cellar.pretend.writes)
    cellar.run(AGAIN_S - 10, 1500)
    assert (cellar.steer.applied_w, len(cellar.pretend.writes)) == (0, writes)
    cellar.run(10 + TRIAL_S + 10, 1500)
    assert len(cellar.pretend.writes) > writes  # a trial, in vain
    assert not cellar.steer.trusted
    cellar.pretend.fault = ""
    cellar.run(AGAIN_S, 1500)
    assert round(cellar.pretend.watts(cellar.now)) == -900  # it is half full
    cellar.run(RAMP_S + 5 + PROOF_S, 1500)
    assert (cellar.steer.trusted, cellar.texts[-1], len(cellar.texts)) == (True, "", 3)
    assert cellar.run(10, 1500).steer.applied_w == 1500
