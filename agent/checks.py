"""Contradictions, and what is doubtful, in what a configuration says of battery, feeder, frequency and the loads' own meters."""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agent.forms import toml
from agent.keys import Row, Sheet

if TYPE_CHECKING:
    from agent.config import Config


def balance(sheet: Sheet, tables: Mapping[str, Mapping[str, Any]], meters: Iterable[Row], loads: Iterable[Row]) -> None:
    """Who refers to which meter, and whether that meter is one for it."""
    rows = {meter.values["name"]: meter for meter in meters if meter.fit("name")}
    feeder = tables.get("feeder", {})
    feeds = {"grid": ("grid",), "generator": ("generator", "battery")}.get(feeder.get("kind", ""), ())
    _meter(sheet, ("battery",), tables.get("battery", {}), rows, ("battery",))
    _meter(sheet, ("feeder",), feeder, rows, feeds)
    _meter(sheet, ("frequency",), tables["frequency"], rows, ())
    owners: dict[str, Row] = {}
    for load in loads:
        _meter(sheet, load.where, load.values, rows, ("load",))
        meter = load.values.get("meter")
        if meter is not None and (other := owners.setdefault(meter, load)) is not load:
            what = f"the load on line {sheet.line(other.where)} has the same meter"
            sheet.say((*load.where, "meter"), what, "Leave it out at both: a meter of several loads tells of none")
    battery, name = tables.get("battery", {}), feeder.get("meter")
    if name is not None and name == battery.get("meter"):
        what = "the unit that forms the grid cannot follow set-points"
        sheet.say(("battery", "meter"), what, "Remove [battery], or write [feeder] on the node that has the coupling")
    if feeder.get("kind") == "generator" and feeder.get("export_limit_w"):
        sheet.say(("feeder", "export_limit_w"), "a generator takes nothing back", "Remove it")
    row = rows.get(battery.get("meter", ""))
    if row is not None and battery.get("control", "none") != "none" and row.values.get("port") is row.values.get("host") is None:
        what = f"no set-point reaches {battery['meter']!r}, which is on a pin"
        sheet.say(("battery", "control"), what, "Set-points go over Modbus: give that meter a port or a host")


def doubts(config: Config) -> list[str]:
    """What a configuration may say and hardly means, as "path: what. way out": nothing of it keeps a node from running."""
    return [*_small(config), *_nowhere(config)]


def _small(config: Config) -> Iterator[str]:
    rated_w, feeder = config.node.rated_w, config.feeder
    if feeder is None or feeder.kind != "generator" or feeder.import_limit_w <= rated_w:
        return
    made_w = feeder.import_limit_w
    what = (
        f"{rated_w} W is less than the {made_w} W of this node's generator, and a record beyond 1.2 times rated_w is not believed"
    )
    yield f"node.rated_w: {what}. Write rated_w = {made_w} or more: what the generator gives flows through this node"


def _nowhere(config: Config) -> Iterator[str]:
    """A zone that this machine does not know is taken for UTC; without tzdata it knows none, and another may."""
    zone = config.node.time_zone
    if zone is None:
        return
    try:
        zoneinfo.ZoneInfo(zone)
        return
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        pass
    known = sorted(zoneinfo.available_timezones())
    if not known:
        return
    near = [name for name in known if name.endswith(f"/{zone}")] or difflib.get_close_matches(zone, known, 1)
    way_out = f"Did you mean {toml(near[0])}?" if near else 'Write one such as "Europe/Berlin"'
    yield f"node.time_zone: this machine knows no {zone!r}, and takes UTC. {way_out}"


def _meter(
    sheet: Sheet, where: tuple[str | int, ...], values: Mapping[str, Any], rows: Mapping[str, Row], roles: Collection[str]
) -> None:
    """`values["meter"]`, where it is there, must name one of `rows`, of one of the `roles` (any, if none are given)."""
    name = values.get("meter")
    if name is None:
        return
    row = rows.get(name)
    if row is None:
        near = difflib.get_close_matches(name, rows, 1)
        known = f"There are {', '.join(rows)}" if rows else "Write a [[meter]] with that name"
        sheet.say((*where, "meter"), f"there is no meter {name!r}", f"Did you mean {toml(near[0])}?" if near else known)
    elif roles and row.fit("role") and row.values["role"] not in roles:
        fits = [other for other, one in rows.items() if one.values.get("role") in roles]
        likely = toml(next(iter(roles)))
        way_out = f"Name {' or '.join(map(toml, fits))}" if fits else f"Write role = {likely} there, or name another"
        what = f"the meter {name!r} is of role {row.values['role']}, not {' or '.join(roles)}"
        sheet.say((*where, "meter"), what, way_out)
