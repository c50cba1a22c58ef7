"""What comes into a node and what it wants done: the whole traffic through its one door."""

from collections.abc import Mapping
from dataclasses import dataclass

from drivers.reading import Reading


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of all: what the store kept under each name from the runs before."""

    kept: Mapping[str, bytes]
    unix_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A message from the local broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The local broker took us in, perhaps with nothing left of what it knew."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The local broker is gone."""


@dataclass(frozen=True, slots=True)
class Metered:
    """One meter was read, well or not."""

    name: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by; `unix_s` is the wall clock, which orders nothing and only dates what people read."""

    unix_s: float


@dataclass(frozen=True, slots=True)
class Quiet:
    """No event waits: the moment to show what the last ones changed."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """An answer to `Dial`: the id found at that address, or why there is none; `local` is our own address on the way there."""

    address: str
    node: str | None
    why: str
    local: str | None
    request: int | None


@dataclass(frozen=True, slots=True)
class Warned:
    """A shell's own trouble, shown as an alert; an empty text clears it."""

    alert: str
    text: str


@dataclass(frozen=True, slots=True)
class Join:
    address: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Part from one sibling, or (None) leave the network."""

    node: str | None


@dataclass(frozen=True, slots=True)
class Forget:
    node: str


@dataclass(frozen=True, slots=True)
class Status:
    """Tell everything this node knows, as `grid status --json` prints it, with its meters and siblings."""


Ask = Join | Leave | Forget | Status


@dataclass(frozen=True, slots=True)
class Asked:
    """A local, authorised person's command; its outcome is the `Answer` with the same number."""

    request: int
    ask: Ask


@dataclass(frozen=True, slots=True)
class Stopping:
    """The process is about to end in good order."""


Event = Started | Heard | Connected | Disconnected | Metered | Tick | Quiet | Dialled | Warned | Asked | Stopping


@dataclass(frozen=True, slots=True)
class Publish:
    """Retained; records (`sure`) at QoS 1 so that bridges carry them at QoS 1, our own view at QoS 0."""

    topic: str
    payload: bytes
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Dial:
    """Ask the node behind this broker's address for its id."""

    address: str
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """One link that this node keeps: where its sibling's broker listens."""

    sibling: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Bridges:
    """All links that this node keeps, from now on."""

    links: tuple[Bridge, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Keep this under a name, so that a power cut leaves the old or the new."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request: one JSON object."""

    request: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Complain:
    """A line for the log."""

    text: str


Effect = Publish | Dial | Bridges | Save | Answer | Complain
