"""Two nodes' stores of one day, compared by the file that 'grid audit --json' made at the other."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from agent.accounts import Settled, differ, digest
from agent.audit import Audit, start_s
from agent.cli.words import fail
from agent.isle import Island, Want
from agent.own import iso
from agent.wire import DAY_S


class Told(msgspec.Struct, frozen=True):
    """A slot of such a file: all that its digest stands for."""

    slot: int
    slot_s: Annotated[int, msgspec.Meta(ge=1, le=DAY_S)]
    zone: str
    revision: int
    digest: str
    price_buy_u: int
    price_sell_u: int
    rule: str
    currency: str
    import_u: int
    export_u: int
    floor_u: int
    cap_u: int
    uses: dict[str, tuple[int, int]]
    island: Island | None = None
    wants: dict[str, Want] = {}
    corrected: list["Told"] = []

    def settled(self) -> Settled:
        """The newest revision."""
        told = self.corrected[-1] if self.corrected else self
        return Settled(
            slot=told.slot,
            slot_s=told.slot_s,
            zone=told.zone,
            revision=told.revision,
            booked=told.slot,
            digest=told.digest,
            rule=told.rule,
            currency=told.currency,
            import_u=told.import_u,
            export_u=told.export_u,
            floor_u=told.floor_u,
            cap_u=told.cap_u,
            buy_u=told.price_buy_u,
            sell_u=told.price_sell_u,
            uses=told.uses,
            island=told.island,
            wants=told.wants,
        )


class ToldDay(msgspec.Struct, frozen=True):
    day: str
    slots: list[Told]


class Differs(NamedTuple):
    """One slot of which two stores say something else: by name what is here and what is there."""

    start_s: int
    slot: int
    zone: str
    what: dict[str, tuple[Any, Any]]

    def as_json(self) -> dict[str, Any]:
        return {"slot": self.slot, "start": iso(self.start_s), "zone": self.zone, "what": self.what}


def compared(found: Audit, path: Path, day: date) -> list[Differs]:
    """The slots that differ, by time; their newest revisions count. Ends the command when the file is none of ours."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=ToldDay)
    except OSError as error:
        fail(f"{path}: cannot be read ({error.strerror}). At the other node: grid audit --day {day} --json > FILE")
    except ValueError as error:
        fail(f"{path}: not what grid audit prints ({error}). At the other node: grid audit --day {day} --json > FILE")
    if told.day != str(day):
        fail(f"{path} tells of {told.day[:40]!r}, not of {day}. Name that day with --day")
    theirs = {_key(one): one for one in (slot.settled() for slot in told.slots)}
    for one in theirs.values():
        if start_s(one) // DAY_S != day_number(day):
            fail(f"{path} tells of slots of another day than {day}. Let it be made anew")
        if digest(one) != one.digest:
            fail(f"{path}: what it says of the slot {iso(start_s(one))} does not give its digest. Let it be made anew")
    ours = {_key(one): one for one in (book.newest for book in found.books)}
    differing: list[Differs] = []
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key), theirs.get(key)
        if here is None or there is None:
            what = {"slot": (here and f"revision {here.revision}", there and f"revision {there.revision}")}
        elif here.digest != there.digest:
            what = differ(here, there)
        else:
            continue
        begins_s, zone, slot_s = key
        differing.append(Differs(begins_s, begins_s // slot_s, zone, what))
    return differing


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return day.toordinal() - date(1970, 1, 1).toordinal()


def _key(settled: Settled) -> tuple[int, str, int]:
    return start_s(settled), settled.zone, settled.slot_s
