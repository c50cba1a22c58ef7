"""GPIO: pulse inputs, relays and a lamp on the header of a Pi, through gpiozero."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from drivers.reading import Lamp

BOUNCE_S = 0.005  # lgpio takes an edge once the level was stable for so long: 30 ms would swallow pulses of 30 ms
BLINK_S = {"slow": 1.0, "fast": 0.15}  # on for so long, then off for so long


class PinError(Exception):
    """This pin cannot be had; says why and the way out. The node runs on without it."""


class PulseInput:
    """A contact or open collector between a pin (BCM number) and ground, with the Pi's own pull-up.

    `put` gets the monotonic second of each closing, in gpiozero's thread: it may enqueue, nothing else.
    """

    def __init__(self, pin: int, put: Callable[[float], None]) -> None:
        self.pin, self._put = pin, put
        self._device: Any = None

    def open(self) -> None:
        """Raises PinError."""
        if self._device is None:
            self._device = _made("DigitalInputDevice", self.pin, pull_up=True, bounce_time=BOUNCE_S)
            self._device.when_activated = self._closed

    def _closed(self) -> None:
        self._put(time.monotonic())

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()


class Relay:
    """A relay or contactor driver on a pin (BCM number). "on" drives it; `active_low` drivers take the low level for that.

    open() takes the pin in the safe state or the one asked for; close() leaves it in the safe one, in this order: safe level,
    then an input that nobody drives.
    What nobody can promise: before open(), after close() and after a power cut the pin is an input, and after a crash (SIGKILL,
    segmentation fault) the kernel of a Pi keeps the last level until someone changes it (`dtparam=strict_gpiod` in config.txt
    makes it an input there too). So wire it such that "not driven" is safe, by the contact chosen (normally closed for a load that
    shall run) and a resistor that holds the driver's input, and let the watchdog restart the node.
    """

    def __init__(self, pin: int, active_low: bool, safe_on: bool) -> None:
        self.pin, self.active_low, self.safe_on = pin, active_low, safe_on
        self._device: Any = None

    def open(self, on: bool | None = None) -> None:
        """`on` is its first state, None the safe one; there is no other before it. Raises PinError."""
        if self._device is None:
            first = self.safe_on if on is None else on
            self._device = _made("DigitalOutputDevice", self.pin, active_high=not self.active_low, initial_value=first)

    def set(self, on: bool) -> None:
        """Raises PinError when it is not open."""
        if self._device is None:
            raise PinError(f"GPIO{self.pin}: the relay is not open; open it first")
        self._device.value = on

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.value = self.safe_on
            device.close()


class StatusLed:
    """A lamp from a pin (BCM number) over a resistor to ground: off, on, or blinking slow or fast."""

    def __init__(self, pin: int) -> None:
        self.pin = pin
        self._device: Any = None
        self._shown: Lamp = "off"

    def open(self) -> None:
        """Raises PinError."""
        if self._device is None:
            self._device, self._shown = _made("DigitalOutputDevice", self.pin, initial_value=False), "off"

    def show(self, lamp: Lamp) -> None:
        """Raises PinError when it is not open."""
        if self._device is None:
            raise PinError(f"GPIO{self.pin}: the lamp is not open; open it first")
        if lamp == self._shown:
            return  # a new start would shift the rhythm
        self._shown = lamp
        if lamp in BLINK_S:
            self._device.blink(BLINK_S[lamp], BLINK_S[lamp])
        else:
            self._device.value = lamp == "on"

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.off()
            device.close()


def _made(kind: str, pin: int, **settings: object) -> Any:
    """gpiozero's device of that class on that pin. Raises PinError for whatever gpiozero, lgpio or the kernel say."""
    where = f"GPIO{pin}"
    try:
        import gpiozero  # type: ignore[import-untyped]  # 11 MB: only who has pins pays
    except ImportError as error:
        raise PinError(f"{where}: {error}; install gpiozero, or take the pin out of the configuration") from error
    try:
        return getattr(gpiozero, kind)(pin, pin_factory=_factory(gpiozero), **settings)
    except gpiozero.GPIOPinInUse as error:
        raise PinError(f"{where}: used twice: {error}; give each input, relay and lamp a pin of its own") from error
    except gpiozero.PinInvalidPin as error:
        raise PinError(f"{where}: {error}; give the BCM number, 2 to 27, not the position on the header") from error
    except gpiozero.BadPinFactory as error:
        raise PinError(f"{where}: {error}; unset it") from error
    except (OSError, gpiozero.GPIOZeroError, *_lgpio_errors()) as error:
        way_out = "is this a Pi, this user in the group gpio, and the pin not used by another program?"
        raise PinError(f"{where}: {error}; {way_out}") from error
    except (ImportError, AttributeError) as error:  # lgpio 0.0 of PyPI is an empty module
        way_out = (
            "install lgpio 0.2.2 or later: .venv/bin/pip install '.[pi]' in the checkout; or take the pin out of the configuration"
        )
        raise PinError(f"{where}: no lgpio: {error}; {way_out}") from error


def _lgpio_errors() -> tuple[type[Exception], ...]:
    error = getattr(sys.modules.get("lgpio"), "error", None)
    return () if error is None else (error,)


def _factory(gpiozero: Any) -> Any:
    """The one pin factory of this process: lgpio, never gpiozero's own choice, which tries four and warns; or mock, for tests."""
    if gpiozero.Device.pin_factory is None:
        name = os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio")
        if name not in ("lgpio", "mock"):
            raise gpiozero.BadPinFactory(f"GPIOZERO_PIN_FACTORY = {name!r} is not lgpio")
        gpiozero.Device.pin_factory = _mock() if name == "mock" else _lgpio()
    return gpiozero.Device.pin_factory


def _mock() -> Any:
    from gpiozero.pins.mock import MockFactory  # type: ignore[import-untyped]

    return MockFactory()


def _lgpio() -> Any:
    import lgpio  # type: ignore[import-not-found]
    from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin  # type: ignore[import-untyped]

    class Pin(LGPIOPin):  # type: ignore[misc]
        """gpiozero 2.0.1 makes the pin a low output first and sets its level then, which blips an active-low relay."""

        def output_with_state(self, state: bool) -> None:
            lgpio.gpio_claim_output(self.factory._handle, self._number, int(state))

    factory = LGPIOFactory()
    factory.pin_class = Pin
    return factory
