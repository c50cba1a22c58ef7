"""What the energy records say of one slot: who took and gave how much, and whose record does not count, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agent.wire import DAY_S, MAX_W, Energy

UNKNOWN, FELL, BEYOND = "not known", "registers fall", "more than its rating"


class Use(NamedTuple):
    """One node's part of a slot, both >= 0; `why` it is less than exact, "" when it is."""

    import_wh: int
    export_wh: int
    why: str


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
    if max(import_wh, export_wh) > rated_w * 6 * record.slot_s // (5 * 3600) + 1:
        return BEYOND
    return Use(import_wh, export_wh, record.flags.get(first + record.edges, ""))


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
    edges = {edge for edge in before.keys() | after.keys() if before.get(edge) != after.get(edge)}
    flags = {slot for slot in old.flags.keys() | new.flags.keys() if old.flags.get(slot) != new.flags.get(slot)}
    first = new.day * (DAY_S // new.slot_s)
    return {first + number for number in edges | {edge - 1 for edge in edges} | flags} & (_slots(old) | _slots(new))


def _slots(record: Energy) -> set[int]:
    """The slots between a record's edges."""
    first = record.day * (DAY_S // record.slot_s) + record.edges
    return set(range(first, first + len(record.import_wh) - 1))


def _edges(record: Energy) -> dict[int, tuple[int | None, int | None]]:
    return dict(enumerate(zip(record.import_wh, record.export_wh, strict=True), record.edges))
