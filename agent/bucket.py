"""A bucket: how often something may be done."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A rate limit: `rate` a second, `level` at once."""

    rate: float
    level: float
    burst: float
    at_s: float = 0.0

    def take(self, now: float) -> bool:
        self.level = min(self.burst, self.level + (now - self.at_s) * self.rate)
        self.at_s = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True
