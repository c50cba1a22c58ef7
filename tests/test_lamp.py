"""The node's lamp, with gpiozero's mock pins, which prove nothing of what a real pin does; and what lights it."""

import gpiozero
import pytest
from desk import Desk

from agent.events import Light, Stopping
from agent.lamp import StatusLamp


@pytest.fixture
def pins(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    yield lambda number: gpiozero.Device.pin_factory.pin(number)
    if gpiozero.Device.pin_factory is not None:
        gpiozero.Device.pin_factory.reset()


def test_it_shows_what_it_was_told_before_it_was_open(pins):
    lamp = StatusLamp(25)
    lamp.show("on")
    assert lamp.open() == ""
    assert pins(25).state is True
    lamp.show("off")
    assert pins(25).state is False
    lamp.close()
    lamp.close()
    lamp.show("on")


def test_no_pin_and_no_pins():
    none = StatusLamp(None)
    assert none.open() == ""
    none.show("on")
    none.close()


def test_a_machine_without_pins_says_so(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    lamp = StatusLamp(25)
    assert "GPIO25" in lamp.open()
    lamp.show("on")
    lamp.close()


def lights(effects):
    return [effect.lamp for effect in effects if isinstance(effect, Light)]


def test_on_slow_fast_off():
    desk = Desk()
    assert lights(desk.wait(5.0, w=100)) == ["fast", "on"]  # not read yet; then fine
    desk.meet("b", 500)
    desk.wait(2.0, w=100)
    assert lights(desk.wait(20.0, w=100)) == ["slow"]  # b is silent: the net is not whole
    assert lights(desk.wait(5.0, w=None)) == ["fast"]  # our own meter does not answer
    assert lights(desk.do(Stopping())) == ["off"]
