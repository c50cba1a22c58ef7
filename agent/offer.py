"""What this node wants and offers, for the plan: the uncontrolled base, its battery and its feeder, as its record carries them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent import wire
from agent.dispatch import Flex
from drivers.reading import Reading

if TYPE_CHECKING:
    from agent.own import Own
    from agent.switches import Switches

LASTS_S = 60  # what a battery offers it can keep up for so long


@dataclass(frozen=True, slots=True)
class Battery:
    """The node's battery; not `written`: it goes by its own rules, and what it does is part of the base like the rest."""

    meter: str
    power_w: int
    energy_wh: int
    written: bool = False
    droop: bool = True  # its inverter's own
    deadband_w: int = 50
    revert_s: int = 60


@dataclass(frozen=True, slots=True)
class Feeder:
    """What the zone hangs on; only its owner has one."""

    meter: str
    kind: Literal["grid", "generator"]
    import_limit_w: int
    export_limit_w: int | None = None


def read_w(own: Own, meter: str) -> int | None:
    """What this meter reads, + in its import direction; None while it says nothing good."""
    reading = _good(own, meter)
    return None if reading is None or "w" not in reading.values else int(reading.values["w"])


def charge_pct(own: Own, meter: str) -> float | None:
    """How full the battery is, as this meter reads."""
    reading = _good(own, meter)
    return None if reading is None else reading.values.get("soc_pct")


def _good(own: Own, meter: str) -> Reading | None:
    line = own.lines.get(meter)
    return line.reading if line is not None and line.reading.quality == "good" else None


def slack_w(own: Own) -> int | None:
    """What the zone takes here, + = supplied to it; None without a feeder or while its meter says nothing."""
    feeder = own.settings.feeder
    watts = None if feeder is None else read_w(own, feeder.meter)
    return watts if watts is None or feeder is None or feeder.kind == "grid" else -watts


def loads(own: Own, switches: Switches, now: float) -> tuple[int, int, int, int]:
    """W by class that would be drawn if all relays were on; of a base that is not known, only what they switch."""
    account, steered_w, given_w = own.account, _steered_w(own), _given_w(own)
    consumed_w = account.consumed_w
    base_w = 0 if consumed_w is None else max(0, consumed_w - max(0, steered_w) - max(0, -given_w))
    if consumed_w is not None:
        _share_out(own, switches, base_w)
    first, second, third, fourth = switches.wanted(base_w, now)
    return _capped((first, second, third, fourth), _most_w(own))


def _most_w(own: Own) -> int:
    """More than that nobody would believe of this connection, as `believed` and `possible` say."""
    return own.settings.rated_w * 6 // 5


def _capped(load: tuple[int, int, int, int], most_w: int) -> tuple[int, int, int, int]:
    """No more than the connection carries; the flexible give way."""
    left_w, capped = most_w, []
    for watts in load:
        capped.append(min(watts, left_w))
        left_w -= capped[-1]
    return capped[0], capped[1], capped[2], capped[3]


def _share_out(own: Own, switches: Switches, base_w: int) -> None:
    """Relays without a meter of their own draw what is measured, up to their rating, the critical first: not more in all."""
    metered = set(own.settings.load_meters.values())
    on = [one for one in switches.switches.values() if one.on]
    left_w = max(0, base_w - sum(one.drawn_w or 0 for one in on if one.load.name in metered))
    for one in sorted(on, key=lambda one: (one.load.each, one.load.name)):
        if one.load.name not in metered:
            drawn_w = min(one.load.rated_w, left_w)
            switches.measure(one.load.name, drawn_w)
            left_w -= drawn_w


def _steered_w(own: Own) -> int:
    """What a battery that follows set-points takes (+) or gives (-) now: it is no part of the base."""
    battery = own.settings.battery
    return (read_w(own, battery.meter) or 0) if battery is not None and battery.written else 0


def _given_w(own: Own) -> int:
    """What the unit that forms the grid gives, where it is part of this node's account."""
    feeder = own.settings.feeder
    return (slack_w(own) or 0) if feeder is not None and feeder.kind == "generator" else 0


def flex(own: Own, load: tuple[int, int, int, int], applied_w: int, trusted: bool) -> Flex:
    """The offer, with `load` as `loads` says. `trusted`: the battery does what it is told, so it is offered."""
    account, battery, feeder = own.account, own.settings.battery, own.settings.feeder
    most_w = _most_w(own)
    sun_w = (account.produced_w or 0) - max(0, -_steered_w(own)) - max(0, _given_w(own))
    dis_w = chg_w = soc_wh = cap_wh = 0
    soc_pct = charge_pct(own, battery.meter) if battery is not None else None
    if battery is not None and soc_pct is not None:
        cap_wh = battery.energy_wh
        soc_wh = min(cap_wh, max(0, round(cap_wh * soc_pct / 100)))
        if battery.written and trusted:
            most_battery_w = min(battery.power_w, most_w)
            dis_w = min(most_battery_w, soc_wh * 3600 // LASTS_S)
            chg_w = min(most_battery_w, (cap_wh - soc_wh) * 3600 // LASTS_S)
    return Flex(
        load=load,
        pv_w=min(max(0, sun_w), most_w),
        dis_w=dis_w,
        chg_w=chg_w,
        ttg_s=soc_wh * 3600 // battery.power_w if battery is not None and dis_w + chg_w else 0,
        soc_wh=soc_wh,
        cap_wh=cap_wh,
        firm_w=feeder.import_limit_w if feeder is not None else 0,
        applied_w=applied_w,
        slack_w=slack_w(own),
        export_w=feeder.export_limit_w if feeder is not None else None,
    )


def keys(flex: Flex, feeder: Feeder | None, digest: str) -> dict[str, Any]:
    """The record's `flex`: without what is 0 or unknown."""
    names = ("pv_w", "dis_w", "chg_w", "ttg_s", "soc_wh", "cap_wh", "firm_w", "applied_w")
    said: dict[str, Any] = {"load": flex.load, **{name: getattr(flex, name) for name in names if getattr(flex, name)}}
    for name in ("slack_w", "export_w"):
        if getattr(flex, name) is not None:
            said[name] = getattr(flex, name)
    return {**said, **({"kind": feeder.kind} if feeder is not None else {}), "digest": digest}


def believed(said: wire.Flex, rated_w: int) -> bool:
    """Whether its owner's connection can carry what it wants and offers; the feeder carries more than its owner's house."""
    most = 6 * rated_w
    return all(5 * watts <= most for watts in (sum(said.load), said.pv_w, said.dis_w, said.chg_w, abs(said.applied_w)))


def possible(state: wire.State) -> bool:
    """Whether the watts are possible for the rating that the record itself declares; 20 % is measuring and start-up margin."""
    return 5 * max(state.produced_w or 0, state.consumed_w or 0) <= 6 * state.rated_w


def offered(said: wire.Flex) -> Flex:
    """As the plan takes it. What a feeder can do counts only where one is."""
    flex = msgspec.convert(said, Flex, from_attributes=True)
    if said.kind is None and (flex.firm_w, flex.slack_w, flex.export_w) != (0, None, None):
        return replace(flex, firm_w=0, slack_w=None, export_w=None)
    return flex


def apart(new: Flex, old: Flex, deadband_w: int) -> bool:
    """Whether the difference is worth a record before the next heartbeat."""
    if (new.slack_w is None) != (old.slack_w is None):
        return True
    watts = [(new.pv_w, old.pv_w), (new.dis_w, old.dis_w), (new.chg_w, old.chg_w), (new.slack_w or 0, old.slack_w or 0)]
    return any(abs(a - b) > deadband_w for a, b in (*zip(new.load, old.load, strict=True), *watts))
