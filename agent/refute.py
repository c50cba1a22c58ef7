"""When somebody else speaks with this node's id: jump above an old copy of ourselves, but do not race a living clone."""

from dataclasses import dataclass
from enum import Enum

GROWTHS = 3  # of another instance after we jumped: an old copy cannot react, so that one is alive
APART_S = 1.0  # between two jumps; old copies that several siblings kept arrive together and are answered by one
AGAIN_S = 20.0  # in a conflict: the one whose versions stand below is heard by nobody, so it jumps above now and then
QUIET_S = 60.0  # a clone not heard this long is switched off

CONFLICT = "another live node uses this id; change [node] id on one of them or switch the copied card off"


class Do(Enum):
    NOTHING = "nothing"
    JUMP = "jump"
    YIELD = "yield"  # we are two: say so and do not race
    RESUME = "resume"  # the other one is gone


@dataclass(slots=True)
class Refute:
    """Watches the other instances of our own id. `top` is their greatest version."""

    conflict: str = ""
    top: int = 0
    growths: int = 0
    jumped_s: float | None = None
    heard_s: float = 0.0
    pending: bool = False

    def heard(self, version: int, now: float) -> Do:
        """Another instance published this version, above ours."""
        if version <= self.top:
            return Do.NOTHING
        self.top, self.heard_s = version, now
        if self.jumped_s is None:
            self.jumped_s = now
            return Do.JUMP
        self.pending = True
        return self.tick(now)

    def tick(self, now: float) -> Do:
        if self.jumped_s is None:
            return Do.NOTHING
        if now - self.heard_s > QUIET_S:
            ended = bool(self.conflict)
            self.conflict, self.growths, self.jumped_s, self.pending = "", 0, None, False
            return Do.RESUME if ended else Do.NOTHING
        if not self.pending or now - self.jumped_s < (AGAIN_S if self.conflict else APART_S):
            return Do.NOTHING
        self.pending, self.jumped_s = False, now
        if self.conflict:
            return Do.JUMP
        self.growths += 1
        if self.growths < GROWTHS:
            return Do.JUMP
        self.conflict = CONFLICT
        return Do.YIELD
