"""GPIO through gpiozero's mock pins, and once through its real lgpio pins over an lgpio that only takes notes.

What this does not prove: that a level stays or falls on a real Pi when the process dies or power goes, that lgpio debounces in
hardware time (the mock ignores bounce_time), that no other program holds a pin, and anything about what hangs on the header.
"""

import subprocess
import sys
import threading
import time
from types import ModuleType

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from drivers.gpio import BOUNCE_S, PinError, PulseInput, Relay, StatusLed


@pytest.fixture
def pins(monkeypatch):
    """The mock factory that open() makes by itself."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    gpiozero.Device.pin_factory = None
    devices = []

    def keep(device):
        devices.append(device)
        return device

    keep.pin = lambda number: gpiozero.Device.pin_factory.pin(number)
    yield keep
    for device in devices:
        device.close()
    if gpiozero.Device.pin_factory is not None:
        gpiozero.Device.pin_factory.close()
    gpiozero.Device.pin_factory = None


def levels(pin):
    return [state.state for state in pin.states]


def test_each_closing_of_the_contact_is_put_once_with_its_time_and_openings_are_not(pins):
    seen = []
    pulses = pins(PulseInput(17, seen.append))
    pulses.open()
    pulses.open()  # once more changes nothing
    assert isinstance(gpiozero.Device.pin_factory, MockFactory)
    pin = pins.pin(17)
    assert (pin.pull, pin.bounce, seen) == ("up", BOUNCE_S, [])
    begin = time.monotonic()
    for _ in range(3):
        pin.drive_low()
        pin.drive_high()
    assert len(seen) == 3
    assert begin <= seen[0] <= seen[1] <= seen[2] <= time.monotonic()
    pulses.close()
    pulses.close()
    assert pin.function == "input"
    pulses.open()  # a second life
    pins.pin(17).drive_low()
    assert len(seen) == 4


def test_a_contact_that_is_closed_at_the_start_is_no_pulse(pins):
    seen = []
    first = pins(StatusLed(4))
    first.open()  # makes the factory
    pins.pin(17)._set_pull = lambda value: None  # the contact to ground is stronger than the pull-up
    pins.pin(17).drive_low()
    pulses = pins(PulseInput(17, seen.append))
    pulses.open()
    assert seen == []


@pytest.mark.parametrize("active_low", [False, True])
@pytest.mark.parametrize("safe_on", [False, True])
def test_a_relay_begins_and_ends_safe(pins, active_low, safe_on):
    safe, other = (safe_on != active_low), (safe_on == active_low)  # the level that drives is the low one when active_low
    relay = pins(Relay(22, active_low, safe_on))
    relay.open()
    relay.open()
    pin = pins.pin(22)
    assert (pin.function, pin.state) == ("output", safe)
    pin.clear_states()
    relay.set(not safe_on)
    assert pin.state is other
    relay.set(safe_on)
    relay.set(not safe_on)
    assert levels(pin) == [safe, other, safe, other]
    relay.close()
    relay.close()
    assert pin.function == "input"
    assert levels(pin)[4] is safe  # before it was let go
    with pytest.raises(PinError, match=r"GPIO22: the relay is not open"):
        relay.set(True)


def test_a_lamp_shines_blinks_and_keeps_its_rhythm(pins):
    lamp = pins(StatusLed(24))
    with pytest.raises(PinError, match=r"GPIO24: the lamp is not open"):
        lamp.show("on")
    lamp.open()
    lamp.open()
    pin = pins.pin(24)
    assert pin.state is False
    lamp.show("on")
    assert pin.state is True
    lamp.show("off")
    assert pin.state is False
    before = threading.active_count()
    lamp.show("fast")
    thread = lamp._device._blink_thread
    lamp.show("fast")
    assert lamp._device._blink_thread is thread
    lamp.show("slow")
    assert lamp._device._blink_thread is not thread
    assert threading.active_count() == before + 1
    for _ in range(500):
        if pin.state:
            break
        time.sleep(0.01)
    assert pin.state is True
    lamp.show("on")
    assert (pin.state, threading.active_count()) == (True, before)
    lamp.show("slow")
    lamp.close()
    lamp.close()
    assert (pin.function, threading.active_count()) == ("input", before)


def test_a_pin_is_given_once(pins):
    relay, led, pulses = pins(Relay(22, False, False)), pins(StatusLed(22)), pins(PulseInput(22, print))
    relay.open()
    for device in (led, pulses, pins(Relay(22, True, True))):
        with pytest.raises(PinError, match=r"GPIO22: used twice: .*give each"):
            device.open()
    assert pins.pin(22).function == "output"  # the first still has it
    relay.close()
    led.open()
    led.show("on")
    assert pins.pin(22).state is True


@pytest.mark.parametrize("pin", [-1, 28, 99])
def test_a_pin_that_no_pi_has(pins, pin):
    with pytest.raises(PinError, match=rf"GPIO{pin}: .*give the BCM number"):
        Relay(pin, False, False).open()


def test_another_factory_is_refused(pins, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "native")
    with pytest.raises(PinError, match="'native' is not lgpio; unset it"):
        Relay(17, False, False).open()


def test_a_node_without_gpiozero_or_lgpio_is_told_what_to_install(pins, monkeypatch):
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY")
    monkeypatch.setitem(sys.modules, "lgpio", None)  # what an absent module looks like
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    with pytest.raises(PinError, match=r"GPIO17: no lgpio: .*install lgpio"):
        PulseInput(17, print).open()
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with pytest.raises(PinError, match=r"GPIO17: .*install gpiozero"):
        PulseInput(17, print).open()


def test_the_empty_lgpio_of_pypi_is_told_apart(pins, monkeypatch):
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY")
    monkeypatch.setitem(sys.modules, "lgpio", ModuleType("lgpio"))
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    with pytest.raises(PinError, match=r"no lgpio: .*install lgpio 0\.2\.2 or later"):
        Relay(17, False, False).open()


@pytest.fixture
def lgpio(pins, monkeypatch):
    """An lgpio that notes what is asked of it; the rest of gpiozero's way to a real pin is the real one."""

    class Error(Exception):
        pass

    fake = ModuleType("lgpio")
    fake.notes, fake.error, fake.fails = [], Error, ""
    names = "SET_PULL_NONE SET_PULL_UP SET_PULL_DOWN BOTH_EDGES RISING_EDGE FALLING_EDGE SET_BIAS_DISABLE"
    for number, name in enumerate(names.split()):
        setattr(fake, name, number)

    def note(name, answer=0):
        def call(*arguments):
            if name == fake.fails:
                raise Error("can not open gpiochip")
            fake.notes.append((name, *arguments[1:]))
            return answer

        return call

    for name in ("gpiochip_open", "gpiochip_close", "gpio_claim_input", "gpio_claim_output", "gpio_write", "gpio_free"):
        setattr(fake, name, note(name))
    fake.gpio_read, fake.gpio_get_mode = note("gpio_read", 1), note("gpio_get_mode", 2)
    monkeypatch.setitem(sys.modules, "lgpio", fake)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY")
    monkeypatch.setattr("gpiozero.pins.local.get_pi_revision", lambda: 0xA02082)
    yield fake
    sys.modules.pop("gpiozero.pins.lgpio", None)


@pytest.mark.parametrize(
    ("active_low", "safe_on", "level"), [(True, False, 1), (True, True, 0), (False, False, 0), (False, True, 1)]
)
def test_the_real_pin_becomes_an_output_with_the_safe_level_in_one_call(pins, lgpio, active_low, safe_on, level):
    relay = pins(Relay(22, active_low, safe_on))
    relay.open()
    assert [note for note in lgpio.notes if note[0] in ("gpio_claim_output", "gpio_write")] == [("gpio_claim_output", 22, level)]
    lgpio.notes.clear()
    relay.set(not safe_on)
    relay.close()
    wanted = [note for note in lgpio.notes if note[0] in ("gpio_write", "gpio_claim_input")]
    assert wanted == [("gpio_write", 22, 1 - level), ("gpio_write", 22, level), ("gpio_claim_input", 22, lgpio.SET_PULL_NONE)]


def test_a_kernel_that_refuses_is_told_with_the_way_out(pins, lgpio):
    lgpio.fails = "gpiochip_open"
    with pytest.raises(PinError, match=r"GPIO22: can not open gpiochip; is this a Pi, this user in the group gpio"):
        Relay(22, False, False).open()
    lgpio.fails = "gpio_claim_output"
    relay = pins(Relay(22, False, False))
    with pytest.raises(PinError, match="the pin not used by another program"):
        relay.open()
    lgpio.fails = ""
    relay.open()
    assert ("gpio_claim_output", 22, 0) in lgpio.notes


def test_the_module_alone_loads_no_gpio_library():
    code = "import sys, drivers.gpio; print([name for name in sys.modules if name.split('.')[0] in ('gpiozero', 'lgpio')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
