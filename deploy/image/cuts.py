"""Plugs pulled at random moments, again and again; what must outlive each cut, and how that is seen from outside."""

from __future__ import annotations

import time
from typing import Any

from guest import Guest
from testbed import BOOT_S, Bench, Failed, joined, pair


def cuts(bench: Bench) -> None:
    """Pull a plug at a random moment, from the first second of the boot on; what came back is looked at before the next."""
    pair(bench)
    both = [bench.guests[name] for name in ("oak", "elm")]
    time.sleep(130)  # two slots of a minute are over: there are counters to lose
    known = {guest.name: snapshot(guest) for guest in both}
    usual_s = both[1].age_s() - 130
    moments: list[str] = []
    done = 0
    try:
        for number in range(1, bench.options.cuts + 1):
            victims = bench.random.choice(([both[0]], [both[1]], both))
            names = "+".join(guest.name for guest in victims)
            moment_s = bench.random.uniform(0, 2 * usual_s) if number < bench.options.cuts else float("inf")
            again_s, came_s = cut(victims, moment_s)
            joined(bench, both)
            for guest in victims:
                compare(guest, known[guest.name], snapshot(guest))
            known = {guest.name: snapshot(guest) for guest in both}
            done += 1
            moments.append(f"{again_s:.0f}! {came_s:.0f}" if again_s is not None else f"{came_s:.0f}")
            again = f", cut again after {again_s:.0f} s" if again_s is not None else ""
            print(f"  cut {number} of {names}{again}: back after {came_s:.0f} s, all there", flush=True)
            time.sleep(bench.random.uniform(0, bench.options.rest_s))
    finally:
        more = sum(text.count("!") for text in moments)
        bench.figure("power cuts survived", f"{done} of {bench.options.cuts}, and {more} more while a node was starting again")
        bench.figure("seconds to the price after each (n!: cut again then)", " ".join(moments))


def cut(victims: list[Guest], moment_s: float) -> tuple[float | None, float]:
    """Pull their plugs, and once more after `moment_s` if they are not up by then. When that was, or None; when they were up."""
    again_s = None
    for guest in victims:
        guest.pull()
    for guest in victims:
        guest.replug()
    while not all(guest.price() for guest in victims):
        if again_s is None and victims[0].age_s() >= moment_s:
            again_s = victims[0].age_s()
            for guest in victims:
                guest.pull()
                guest.replug()
        if victims[0].age_s() > BOOT_S:
            raise Failed(f"{victims[0].name}: no price in {BOOT_S:.0f} s after a cut\n{victims[0].last_words()}")
        time.sleep(0.5)
    return again_s, victims[0].age_s()


def snapshot(guest: Guest) -> dict[str, Any]:
    """What must outlive a cut."""
    records = {kind: guest.record(guest.name, kind) for kind in ("state", "info", "energy/even", "energy/odd")}
    return {"records": records, "price": guest.price()}


def compare(guest: Guest, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raises Failed unless all came back, and grew."""
    old, new = before["records"], after["records"]
    for kind in ("state", "info"):
        if not new[kind]["version"] > old[kind]["version"]:
            raise Failed(f"{guest.name}: {kind} went from version {old[kind]['version']} to {new[kind]['version']}")
    if new["state"]["instance"] == old["state"]["instance"]:
        raise Failed(f"{guest.name}: the same instance: this is the old record")
    if new["info"]["place"] != old["info"]["place"]:
        raise Failed(f"{guest.name}: the place {old['info']['place']!r} became {new['info']['place']!r}")
    for key in ("siblings", "meters"):
        lost = set(old["info"].get(key) or ()) - set(new["info"].get(key) or ())
        if lost:
            raise Failed(f"{guest.name}: lost {key} {lost}")
    for kind in ("energy/even", "energy/odd"):
        if old[kind] and new[kind].get("day") == old[kind]["day"]:
            for key in ("import_wh", "export_wh"):
                was, now = edges(old[kind], key), edges(new[kind], key)
                other = {edge: (wh, now.get(edge)) for edge, wh in was.items() if now.get(edge) != wh}
                if other:
                    raise Failed(f"{guest.name}: {kind} {key} was and is, by edge: {other}")
                if sorted(now.values()) != [now[edge] for edge in sorted(now)]:
                    raise Failed(f"{guest.name}: {kind} {key} went back: {now}")


def edges(record: dict[str, Any], key: str) -> dict[int, int]:
    return {record["edges"] + place: wh for place, wh in enumerate(record.get(key) or ()) if wh is not None}
