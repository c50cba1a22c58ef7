"""The relays' pins: opened in the state that is asked for first, safe when the agent ends."""

from collections.abc import Sequence

from agent.config import LoadConfig
from agent.events import Warned
from drivers.gpio import PinError, Relay


class Relays:
    """One relay for each load of the configuration. A pin that cannot be had is an alert, and the node runs on."""

    def __init__(self, loads: Sequence[LoadConfig]) -> None:
        self._relays = {load.name: Relay(load.pin, load.active_low, load.safe_on) for load in loads}

    def set(self, name: str, on: bool) -> Warned:
        """Opens the pin the first time, at that level and not before: a relay must not move twice at a start."""
        relay = self._relays[name]
        try:
            relay.open(on)
            relay.set(on)
        except PinError as error:
            return Warned(f"load-{name}", f"load {name} cannot be switched: {error}")
        return Warned(f"load-{name}", "")

    def close(self) -> None:
        """Everything safe, whatever it was."""
        for relay in self._relays.values():
            relay.close()
