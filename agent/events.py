"""What comes into a node and what it wants done: the whole traffic through its one door.

Structs, not dataclasses: a quarter of the time to import and half the time to make, on the per-message path.
"""

from collections.abc import Mapping, Sequence

import msgspec

from agent.accounts import Settled
from agent.switches import Manual
from drivers.reading import Lamp, Reading


class Started(msgspec.Struct, frozen=True):
    """The first event of all: what the store kept under each name from the runs before, and the ledger of the last days."""

    kept: Mapping[str, bytes]
    unix_s: float
    past: Sequence[Settled] = ()


class Heard(msgspec.Struct, frozen=True):
    """A message from the local broker."""

    topic: str
    payload: bytes
    retained: bool = False  # the broker had it before we came


class Connected(msgspec.Struct, frozen=True):
    """The local broker took us in, perhaps with nothing left of what it knew."""


class Disconnected(msgspec.Struct, frozen=True):
    """The local broker is gone."""


class Metered(msgspec.Struct, frozen=True):
    """One meter was read, well or not."""

    name: str
    reading: Reading


class Pulsed(msgspec.Struct, frozen=True):
    """An S0 meter's count of pulses, now and then, to be kept."""

    name: str
    count: int


class Hertz(msgspec.Struct, frozen=True):
    """The frequency alone, some times a second; None: the meter was asked and told none."""

    hz: float | None


class PointSet(msgspec.Struct, frozen=True):
    """What became of a `SetPoint`: the watts read back (+ = discharge), within the device's limits and steps; 0 with `trouble`."""

    battery: str
    watts: int
    trouble: str


class Tick(msgspec.Struct, frozen=True):
    """Time went by; `unix_s` is the wall clock, which orders no records: it dates what people read, and cuts time into slots.

    `clock_good`: it is known to be right within a second.
    """

    unix_s: float
    clock_good: bool = True


class Quiet(msgspec.Struct, frozen=True):
    """The moment to show what the last events changed. `idle`: none waits, so that all that had come is read."""

    idle: bool = True


class Dialled(msgspec.Struct, frozen=True):
    """An answer to `Dial`: the id found at that address, or why there is none; `local` is our own address on the way there."""

    address: str
    node: str | None
    why: str
    local: str | None
    request: int | None


class Warned(msgspec.Struct, frozen=True):
    """A shell's own trouble, shown as an alert; an empty text clears it."""

    alert: str
    text: str


class Join(msgspec.Struct, frozen=True):
    address: str


class Leave(msgspec.Struct, frozen=True):
    """Part from one sibling, or (None) leave the network."""

    node: str | None


class Forget(msgspec.Struct, frozen=True):
    node: str


class Status(msgspec.Struct, frozen=True):
    """Tell everything this node knows, as `grid status --json` prints it, with its meters and siblings."""


class SetLoad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's word for a load, for so many seconds (None: as usual)."""

    name: str
    manual: Manual
    for_s: float | None = None


class SetTariff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change the shared tariff, micro-currency per kWh (None: as it is), from the unix time `from_s` on (None: soon)."""

    import_u: int | None = None
    export_u: int | None = None
    floor_u: int | None = None
    cap_u: int | None = None
    currency: str | None = None
    slot_s: int | None = None
    rule: str | None = None
    from_s: int | None = None


class Members(msgspec.Struct, frozen=True):
    """Tell who is in this closed network, with their certificates."""


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Believe these keys of a node (base64) no more; `admitted`: it may come back with another. Empty: the key it shows."""

    node: str
    keys: tuple[str, ...] = ()
    admitted: bool = False


class Tell(msgspec.Struct, frozen=True):
    """Give out a certificate (base64 of DER) that the authority made just now."""

    cert: str


Ask = Join | Leave | Forget | Status | SetTariff | SetLoad | Members | Revoke | Tell


class Asked(msgspec.Struct, frozen=True):
    """A local, authorised person's command; its outcome is the `Answer` with the same number."""

    request: int
    ask: Ask


class Issued(msgspec.Struct, frozen=True):
    """What the authority on this node made of a `Certify`: certificates as base64 of DER."""

    certs: tuple[str, ...]


class Stopping(msgspec.Struct, frozen=True):
    """The process is about to end in good order."""


Event = (
    Started
    | Heard
    | Connected
    | Disconnected
    | Metered
    | Pulsed
    | Hertz
    | PointSet
    | Tick
    | Quiet
    | Dialled
    | Warned
    | Asked
    | Issued
    | Stopping
)


class Publish(msgspec.Struct, frozen=True):
    """Retained; records (`sure`) at QoS 1 so that bridges carry them at QoS 1, our own view at QoS 0."""

    topic: str
    payload: bytes
    sure: bool = False


class Dial(msgspec.Struct, frozen=True):
    """Ask the node behind this broker's address for its id."""

    address: str
    request: int | None = None


class Bridge(msgspec.Struct, frozen=True):
    """One link that this node keeps: where its sibling's broker listens."""

    sibling: str
    host: str
    port: int


class Bridges(msgspec.Struct, frozen=True):
    """All links that this node keeps, from now on."""

    links: tuple[Bridge, ...]


class Bar(msgspec.Struct, frozen=True):
    """In a closed network: from now on these nodes, and no others, may neither read nor write at our broker."""

    ids: tuple[str, ...]


class Renew(msgspec.Struct, frozen=True):
    """Let our broker start afresh: it holds more rubbish than can be cleared topic by topic."""


class Save(msgspec.Struct, frozen=True):
    """Keep this under a name, so that a power cut leaves the old or the new."""

    name: str
    data: bytes


class Post(msgspec.Struct, frozen=True):
    """Write these revisions of settled slots into the ledger."""

    rows: tuple[Settled, ...]
    unix_s: float


class Answer(msgspec.Struct, frozen=True):
    """The outcome of a request: one JSON object."""

    request: int
    body: bytes


class Switch(msgspec.Struct, frozen=True):
    """Let this load's relay be on or off."""

    name: str
    on: bool


class Certify(msgspec.Struct, frozen=True):
    """Make the next certificate for each of these (base64 of DER), if the authority is on this node."""

    certs: tuple[str, ...]


class Install(msgspec.Struct, frozen=True):
    """Put this certificate (base64 of DER) in the place of our own."""

    cert: str


class SetPoint(msgspec.Struct, frozen=True):
    """Let this battery give these watts (+ = discharge), for `revert_s` and not longer unless it is told again."""

    battery: str
    watts: int
    revert_s: int


class Light(msgspec.Struct, frozen=True):
    """What the node's lamp shows from now on, if it has one."""

    lamp: Lamp


class Complain(msgspec.Struct, frozen=True):
    """A line for the log."""

    text: str


Effect = Publish | Dial | Bridges | Bar | Certify | Install | Renew | Save | Post | Answer | Switch | SetPoint | Light | Complain
