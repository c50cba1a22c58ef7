"""Certificates as the core sees them: what one says, when it is renewed, what a wrong clock does to it.

Clocks. A certificate is valid since 1970, so that a node whose clock is behind takes part as ever; it would also take one
that has expired, but who shall stay out is kept out by a revocation, and that asks no clock. A node whose clock is years
ahead takes every certificate for expired: its broker refuses its siblings', both ways, and nobody else is concerned. It goes
on measuring and switching for itself, and the links come back with their next try once the clock is right. Nothing is
renewed, refused or thrown away by a clock that is not known to be good, and nothing is dated before this file was written.
A node that was switched off for so long that its certificate expired is admitted anew: one file, `grid admit`.
"""

import msgspec

from agent.wire import DAY_S

NODE_DAYS = 730  # two years: a lost key that nobody noticed ends some day
CA_DAYS = 30 * 365  # longer than any Pi, and than any inverter: renewing it would need a hand at every node
RENEW_S = NODE_DAYS * DAY_S // 3  # eight months for an operator's holiday, and for nodes that are off over the winter
WRITTEN_UNIX = 1_795_305_600  # 2026-11-22: a clock that is right shows no earlier day


class Certified(msgspec.Struct, frozen=True):
    """What the authority says of a node. `key`: its 32 bytes of Ed25519 public key; the times are unix seconds."""

    id: str
    key: bytes
    serial: int
    from_unix: int
    to_unix: int
    operator: bool


def due(to_unix: int, unix_s: float) -> bool:
    """Is it time for a new certificate, a third of its life before its end? For a clock that is known to be good."""
    return to_unix - unix_s < RENEW_S


def expired(to_unix: int, unix_s: float) -> bool:
    """For a clock that is known to be good."""
    return unix_s > to_unix


def dated(unix_s: float) -> float:
    """The moment from which a new certificate's life counts."""
    return max(unix_s, float(WRITTEN_UNIX))
