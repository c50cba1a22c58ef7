"""What the energy records say of one slot: who took and gave how much, and whose record does not count, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agent.isle import Want
from agent.wire import DAY_S, MAX_W, Energy, Fed

UNKNOWN, FELL, BEYOND = "not known", "registers fall", "more than its rating"
UNSEEN, SHED = "unseen", "shed"  # among a slot's flags: what was wanted in it is not known; something was kept from running


class Use(NamedTuple):
    """One node's part of a slot, both >= 0; `why` it is less than exact, "" when it is; `want` where an island may be."""

    import_wh: int
    export_wh: int
    why: str
    want: Want | None = None


class Slot(NamedTuple):
    """One slot of one zone: by node its part, or why it does not count."""

    uses: dict[str, Use]
    uncounted: dict[str, str]


def use(record: Energy, slot: int) -> Use | str:
    """A node's part of slot k = floor(unix / slot_s), or why it does not count.

    Both edges must be known, registers must not fall, and neither may grow by more than the rating that the record itself
    declares allows, with 20 % for measuring and start-up and 1 Wh for whole numbers.
    """
    taken, given = record.import_wh, record.export_wh
    first = slot - record.day * (DAY_S // record.slot_s) - record.edges
    if not 0 <= first < len(taken) - 1:
        return UNKNOWN
    import_0, import_1, export_0, export_1 = taken[first], taken[first + 1], given[first], given[first + 1]
    if import_0 is None or import_1 is None or export_0 is None or export_1 is None:
        return UNKNOWN
    import_wh, export_wh = import_1 - import_0, export_1 - export_0
    if import_wh < 0 or export_wh < 0:
        return FELL
    rated_w = MAX_W if record.rated_w is None else record.rated_w
    most_wh = rated_w * 6 * record.slot_s // (5 * 3600) + 1
    if max(import_wh, export_wh) > most_wh:
        return BEYOND
    why = record.flags.get(first + record.edges, "")
    if not record.wanted_wh and not record.feeder:
        return Use(import_wh, export_wh, why)
    want, doubt = _want(record, first, why.split(), most_wh)
    return Use(import_wh, export_wh, " ".join(filter(None, (why, doubt))), want)


def _want(record: Energy, first: int, why: list[str], most_wh: int) -> tuple[Want | None, str]:
    """What the record says of the slot besides, and why some of it is not believed.

    Sun and battery each carry no more than the rating, as what is wanted; a feeder carries more than its owner's house, and what
    it gives counts only where one is.
    """
    fed, shed = feeder(record, first + record.edges), SHED in why
    nothing = Want(None, None, fed, shed) if fed or shed else None
    if not record.wanted_wh or UNSEEN in why:
        return nothing, ""
    (wanted_0, wanted_1), (avail_0, avail_1) = record.wanted_wh[first : first + 2], record.avail_wh[first : first + 2]
    if wanted_0 is None or wanted_1 is None or avail_0 is None or avail_1 is None:
        return nothing, ""
    wanted_wh, avail_wh = wanted_1 - wanted_0, avail_1 - avail_0
    if wanted_wh < 0 or avail_wh < 0:
        return nothing, f"wanted: {FELL}"
    made_wh = 2 * most_wh + (MAX_W * record.slot_s // 3600 if fed == "generator" else 0)
    if wanted_wh > most_wh or avail_wh > made_wh:
        return nothing, f"wanted: {BEYOND}"
    return Want(wanted_wh, avail_wh, fed, shed), ""


def feeder(record: Energy, number: int) -> Fed:
    """What kind of feeder the node had all through the slot with this number of the day; "" for none, or not for all of it."""
    since = [slot for slot in record.feeder if slot <= number]
    return record.feeder[max(since)] if since else ""


def read(records: Iterable[tuple[str, Energy]], slot: int, slot_s: int, zone: str) -> Slot:
    """The slot as the energy records (node, record) tell it. Those of other days and zones may be among them; order is nothing."""
    day = slot * slot_s // DAY_S
    found = Slot({}, {})
    for node, record in records:
        if record.day != day or record.zone != zone:
            continue
        part = use(record, slot) if record.slot_s == slot_s else f"slots of {record.slot_s} s"
        if isinstance(part, str):
            found.uncounted[node] = part
        else:
            found.uses[node] = part
    return found


def changed(old: Energy | None, new: Energy) -> set[int]:
    """The slots about which the new record of a topic tells something else than the one before it.

    A record of another day in its place says nothing of the old day: that is final by then.
    """
    if old is None or (old.day, old.slot_s) != (new.day, new.slot_s):
        return _slots(new)
    if (old.zone, old.rated_w) != (new.zone, new.rated_w):
        return _slots(old) | _slots(new)
    before, after = _edges(old), _edges(new)
    if old.feeder != new.feeder:
        numbers = {slot - new.day * (DAY_S // new.slot_s) for slot in _slots(old) | _slots(new)}
        fed = {number for number in numbers if feeder(old, number) != feeder(new, number)}
    else:
        fed = set()
    edges = {edge for edge in before.keys() | after.keys() if before.get(edge) != after.get(edge)}
    flags = {slot for slot in old.flags.keys() | new.flags.keys() if old.flags.get(slot) != new.flags.get(slot)}
    first = new.day * (DAY_S // new.slot_s)
    return {first + number for number in edges | {edge - 1 for edge in edges} | flags | fed} & (_slots(old) | _slots(new))


def _slots(record: Energy) -> set[int]:
    """The slots between a record's edges."""
    first = record.day * (DAY_S // record.slot_s) + record.edges
    return set(range(first, first + len(record.import_wh) - 1))


def _edges(record: Energy) -> dict[int, tuple[int | None, ...]]:
    pairs = zip(record.import_wh, record.export_wh, strict=True)
    if not record.wanted_wh:
        return dict(enumerate(pairs, record.edges))
    wants = zip(record.wanted_wh, record.avail_wh, strict=True)
    return dict(enumerate(((*pair, *want) for pair, want in zip(pairs, wants, strict=True)), record.edges))
