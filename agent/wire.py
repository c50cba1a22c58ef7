"""How the network spells things: every topic and every payload key stands here and nowhere else."""

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import msgspec

PROTOCOL = 1
NODE, NETWORK, INBOX = "grid/node/", "grid/network/", "$grid/in/"
BROKER_LOG = "$SYS/broker/log/N"  # Mosquitto's notices (man 5 mosquitto.conf, log_dest topic)
STATE, INFO, TARIFF = "state", "info", "tariff"
ENERGY = ("energy/even", "energy/odd")  # by the day's number, so that yesterday's stays while today's grows
FORGOTTEN, REVOKED, RENEWED = "forgotten/", "revoked/", "cert/"
COMMAND = "$grid/set/"  # in a closed network: $grid/set/TOKEN/LOAD

MAX_PAYLOAD = 16 * 1024  # an energy day of 96 slots is about 3 KB; nothing of ours comes near
MAX_VERSION = 2**53  # every JSON reader holds such an integer exactly
MAX_W = 10**9  # one node, in watts: more than any plant that a Pi will ever meter
MAX_PAST = 8  # tariffs before this one
MAX_UNIX_S = 253_402_300_799  # the year 9999: no calendar goes further
MAX_WH = 10**15  # one register: MAX_W for a century
DAY_S = 86_400

ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
KIND = re.compile(r"[a-z0-9-]{1,32}(?:/[a-z0-9-]{1,32})?")
RESERVED = ("network", "view", "agent")

Fed = str  # what kind of feeder a node has: "" none, grid, generator; a word of a later version says nothing to us
Quality = Literal["good", "late", "suspect", "absent", "conflict"]


class WireError(ValueError):
    """A message that is not of the grid's form: dropped, counted, complained of."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: the canonical topic it belongs to, and the sibling whose inbox carried it (None: our own tree)."""

    topic: str
    owner: str  # a node's id, or "network"
    kind: str
    sibling: str | None


class Record(msgspec.Struct, frozen=True):
    """What every record has. `version` grows; `instance` is random for each run of its maker.

    In a closed network `cert` is its maker's certificate (base64 of DER) in an info and in a network record.
    """

    version: int
    instance: str | None = None
    by: str | None = None
    cert: str | None = None
    sig: str | None = None


class Flex(msgspec.Struct, frozen=True):
    """What a node wants (`load`, W by class) and offers, as agent/dispatch.py takes it; a key that is not there is 0 or unknown.

    `kind` only where the zone's feeder is; `digest` is of the plan's settings, and without ours nobody plans with it.
    """

    load: tuple[int, int, int, int] = (0, 0, 0, 0)
    pv_w: int = 0
    dis_w: int = 0
    chg_w: int = 0
    ttg_s: int = 0
    soc_wh: int = 0
    cap_wh: int = 0
    firm_w: int = 0
    applied_w: int = 0
    slack_w: int | None = None
    export_w: int | None = None
    kind: str | None = None  # grid or generator; any other is of a later version, and is no feeder that we could plan with
    digest: str = ""


class State(Record, frozen=True, kw_only=True):
    """A node's account of itself: watts, `net_w` = `produced_w` - `consumed_w`, all None while unknown."""

    quality: str
    zone: str
    rated_w: int
    net_w: int | None = None
    produced_w: int | None = None
    consumed_w: int | None = None
    table: str | None = None
    why: str | None = None
    at: str | None = None
    hz: float | None = None
    flex: Flex | None = None


class Info(Record, frozen=True, kw_only=True):
    """What changes slowly: `siblings` maps an id to its edge counter, `dials` names those this node keeps the bridge to."""

    siblings: dict[str, int] = {}
    dials: list[str] = []
    meters: list[str] = []
    place: str = ""
    role: str = ""
    address: str | None = None
    url: str | None = None
    agent: str | None = None
    proto: int | None = None
    left: bool = False


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a kWh costs outside, micro-currency, and the rule inside; `from_slot` is the first slot for which they hold."""

    import_u: int
    export_u: int
    floor_u: int
    cap_u: int
    currency: str
    slot_s: int
    rule: str
    from_slot: int = msgspec.field(name="from", default=0)


class Tariff(Record, frozen=True, kw_only=True, dict=True):
    """The shared tariff: its rates, and in `past` those before, newest first, so that a slot has the same price with everybody."""

    import_u: int
    export_u: int
    floor_u: int
    cap_u: int
    currency: str
    slot_s: int
    rule: str
    from_slot: int = msgspec.field(name="from", default=0)
    past: list[Rates] = []

    @cached_property
    def rates(self) -> Rates:
        """The newest, as those of the past stand there; they may still be to come. A struct has no two bases."""
        return msgspec.convert(self, Rates, from_attributes=True)


class Energy(Record, frozen=True, kw_only=True):
    """One UTC day of a node: its registers (Wh, None = unknown) at the slot edges from number `edges` on.

    Edge 0 is the day's midnight and the last the next one; slot i lies between the edges i and i + 1. `flags` says by a
    slot's number why it is less than exact. Of `rated_w` comes what is believed at the most.

    In an electrical island also what it wanted and could have made, cumulative at the same edges, and with its owner by slot
    what its feeder is from there on.
    """

    day: int
    slot_s: int
    edges: int
    import_wh: list[int | None]
    export_wh: list[int | None]
    zone: str
    rated_w: int | None = None
    wanted_wh: list[int | None] = []
    avail_wh: list[int | None] = []
    feeder: dict[int, Fed] = {}
    flags: dict[int, str] = {}


class Forgotten(Record, frozen=True, kw_only=True):
    """A node removed by an operator, or (False) let in again by its owner."""

    forgotten: bool = True


class Revoked(Record, frozen=True, kw_only=True):
    """Keys of a node (base64 of their 32 bytes) that nobody believes any more; `admitted`: it is let in again with another one."""

    keys: list[str] = []
    admitted: bool = False


class Renewed(Record, frozen=True, kw_only=True):
    """A node's next certificate (base64 of DER), of the same key, from the authority's node to it."""

    new: str = ""


def is_id(text: str) -> bool:
    return ID.fullmatch(text) is not None and text not in RESERVED


def place(topic: str) -> Place:
    """The place a topic names. WireError when no record can stand there."""
    sibling: str | None = None
    if topic.startswith(INBOX):
        sibling, _, rest = topic.removeprefix(INBOX).partition("/")
        if not is_id(sibling):
            raise WireError("inbox of no sibling")
        owner, _, kind = rest.partition("/")
    elif topic.startswith(NODE):
        owner, _, kind = topic.removeprefix(NODE).partition("/")
    elif topic.startswith(NETWORK):
        owner, kind = "network", topic.removeprefix(NETWORK)
    else:
        raise WireError("not a record's topic")
    if not KIND.fullmatch(kind):
        raise WireError("no kind of record")
    if owner == "network" and not topic.startswith(NODE):
        if kind.startswith((FORGOTTEN, REVOKED, RENEWED)) and not is_id(kind.partition("/")[2]):
            raise WireError("not a node id")
        return Place(NETWORK + kind, owner, kind, sibling)
    if not is_id(owner):
        raise WireError("not a node id")
    return Place(f"{NODE}{owner}/{kind}", owner, kind, sibling)


def node_topic(owner: str, kind: str) -> str:
    return f"{NODE}{owner}/{kind}"


def energy_kind(day: int) -> str:
    """The kind of record of a day's energy; `day` counts from 1970-01-01 UTC."""
    return ENERGY[day % 2]


def network_topic(kind: str) -> str:
    return NETWORK + kind


def inbox_topic(sibling: str, canonical: str) -> str:
    """Where a sibling's copy of this canonical topic lies in our broker."""
    if canonical.startswith(NODE):
        return f"{INBOX}{sibling}/{canonical.removeprefix(NODE)}"
    return f"{INBOX}{sibling}/network/{canonical.removeprefix(NETWORK)}"


def encode(keys: dict[str, Any]) -> bytes:
    """One record's bytes: compact, keys in the order given; keys whose value is None stay (`null` = unknown)."""
    return msgspec.json.encode(keys)


def digest_of(tariff: Tariff) -> bytes:
    """Stands for a tariff that nobody signed, in a digest."""
    return blake2b(msgspec.json.encode(tariff), digest_size=16).digest()


def keys_of(payload: bytes) -> dict[str, Any]:
    """What a record says, but for who vouches for it. It was decoded before."""
    keys: dict[str, Any] = msgspec.json.decode(payload)
    return {name: value for name, value in keys.items() if name not in ("cert", "sig")}


def encode_list(items: list[str]) -> bytes:
    return msgspec.json.encode(items)


def price_text(price_u: int) -> str:
    """Micro-currency as the exact decimal people read, at least four decimals: 287700 -> '0.2877'."""
    sign, whole, part = "-" if price_u < 0 else "", abs(price_u) // 10**6, abs(price_u) % 10**6
    digits = f"{part:06d}"
    return f"{sign}{whole}.{digits[:4]}{digits[4:].rstrip('0')}"


class View:
    """The topics of one node's own view: `grid/…`, or `grid/view/<id>/…` where several agents share one broker."""

    def __init__(self, node: str, shared: bool) -> None:
        root = f"grid/view/{node}/" if shared else "grid/"
        self.net, self.price, self.sell, self.summary = root + "net", root + "price", root + "price/sell", root + "summary"
        self.status = root + "agent/status"
        self.ours = frozenset((self.net, self.price, self.sell, self.summary, self.status))
        self.lists = (root + "alert/", root + "availability/", root + "meter/", root + "load/")
        self._root = root

    def availability(self, node: str) -> str:
        return f"{self._root}availability/{node}"

    def sibling(self, node: str) -> str:
        return f"{self._root}sibling/{node}"

    def alert(self, name: str) -> str:
        return f"{self._root}alert/{name}"

    def meter(self, name: str, quantity: str) -> str:
        return f"{self._root}meter/{name}/{quantity}"

    def load(self, name: str) -> str:
        return f"{self._root}load/{name}"

    def command(self, topic: str) -> bool:
        """Is this where somebody writes what a load shall be?"""
        return topic.startswith(f"{self._root}load/") and topic.endswith("/set")
