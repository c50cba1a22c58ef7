"""The node's lamp: what it shows, where there is a pin for it."""

from drivers.gpio import PinError, StatusLed
from drivers.reading import Lamp


class StatusLamp:
    """A lamp on a pin (BCM number), or none: a machine without pins runs as well."""

    def __init__(self, pin: int | None) -> None:
        self._pin = pin
        self._led: StatusLed | None = None
        self._shows: Lamp = "off"

    def open(self) -> str:
        """Returns "" or why there is no light."""
        if self._pin is None:
            return ""
        led = StatusLed(self._pin)
        try:
            led.open()
        except PinError as error:
            return str(error)
        self._led = led
        led.show(self._shows)
        return ""

    def show(self, lamp: Lamp) -> None:
        self._shows = lamp
        if self._led is not None:
            self._led.show(lamp)

    def close(self) -> None:
        """Twice is fine."""
        led, self._led = self._led, None
        if led is not None:
            led.close()
