"""Wiring: what a meter that was mounted the wrong way round gives away in the course of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.reading import Reading, Role

LASTS_S = 600.0  # so long without a break: an oven, a cloud or a battery's mood is none
LEAST_W = 50  # below it, an inverter's own use and a meter's zero
NIGHT_H = (23.0, 3.5)  # local clock time in which no sun shines, outside the polar summer


@dataclass(slots=True)
class Wiring:
    """Watches a node's meters beside each other. Hints for people: no reading becomes worse by them."""

    since_s: dict[str, float] = field(default_factory=dict)  # by hint: when it began to look so

    def look(self, meters: Sequence[tuple[str, Role, Reading]], hour: float, now: float) -> list[str]:
        """What looks wrong for LASTS_S already. `meters` as (name, role, reading), `hour` 0 to 24 of the local clock."""
        seen = [hint for hint in _hints(meters, hour)]
        self.since_s = {hint: self.since_s.get(hint, now) for hint in seen}
        return [hint for hint in seen if now - self.since_s[hint] >= LASTS_S]


def _hints(meters: Sequence[tuple[str, Role, Reading]], hour: float) -> list[str]:
    night = hour >= NIGHT_H[0] or hour < NIGHT_H[1]
    stored = any(role in ("battery", "generator") for _, role, _ in meters)
    hints = []
    for name, role, reading in meters:
        if reading.quality != "good" or "w" not in reading.values:
            continue
        w = int(reading.values["w"])
        counted = _counted(reading)
        if role == "pv" and w > LEAST_W:
            hints.append(f"pv meter {name!r} uses power all the time{counted}: is it wired the other way round? then turn flip")
        elif role == "pv" and w < -LEAST_W and night:
            hints.append(
                f"pv meter {name!r} produces in the middle of the night{counted}: is it wired the other way round, or no pv?"
            )
        elif role == "grid" and w < -LEAST_W and night and not stored:
            text = "gives power out in the middle of the night, and there is no battery or generator"
            hints.append(f"grid meter {name!r} {text}{counted}: is it wired the other way round? then turn flip")
        elif role == "load" and w < -LEAST_W:
            hints.append(
                f"load meter {name!r} gives power out all the time{counted}: is it wired the other way round? then turn flip"
            )
    return hints


def _counted(reading: Reading) -> str:
    """What the meter's own counters say of the direction so far."""
    taken, given = reading.values.get("import_wh"), reading.values.get("export_wh")
    if taken is None or given is None or taken == given:
        return ""
    more = "taken than given" if taken > given else "given than taken"
    return f", and its counters have more {more}"
