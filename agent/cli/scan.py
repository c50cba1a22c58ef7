"""Scan: what to try on a line, and which model an answering unit is."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from drivers.reading import MeterError, Number
from drivers.registers import Block, Map, Words, measure, plan

Read = Callable[[int, int, int], Words | None]  # function, address, count -> words, or None when it refuses

# After the maps' own: what installers set, the commonest first.
USUAL = (
    (9600, "8N1"),
    (19200, "8N1"),
    (19200, "8E1"),
    (9600, "8E1"),
    (2400, "8N1"),
    (4800, "8N1"),
    (38400, "8N1"),
    (115200, "8N1"),
)
# Where meters talk of their own accord: P1 since DSMR 4; SML; P1 before DSMR 4 and Linky's standard mode; Linky's historique.
PUSH = ((115200, "8N1"), (9600, "8N1"), (9600, "7E1"), (1200, "7E1"))
SUNSPEC_BASES, SUNS = (40000, 50000, 0), (0x5375, 0x6E53)
# What no meter in a house shows otherwise.
PLAUSIBLE = (("v_", 80, 300), ("hz", 44, 66), ("pf", -1, 1), ("a_", 0, 10_000), ("w", -1e7, 1e7), ("va", -1e7, 1e7))
COUNTER_WH = 1e12


class Match(NamedTuple):
    """A model that fits; the higher the score, the better."""

    model: str
    score: int
    why: str


def settings(maps: Iterable[Map]) -> list[tuple[int, str]]:
    """Baud rates and framings of a serial line, the likeliest first: those that meters leave the factory with."""
    factory = Counter((map_.baud, map_.framing) for map_ in maps if map_.regs)
    ordered = sorted(factory, key=lambda link: (-factory[link], link))
    return list(dict.fromkeys((*ordered, *USUAL)))


def likely(maps: Iterable[Map]) -> list[tuple[int, str, int]]:
    """(baud, framing, unit) that a meter has when nobody has set anything."""
    factory = Counter((map_.baud, map_.framing, map_.unit) for map_ in maps if map_.regs)
    return sorted(factory, key=lambda link: (-factory[link], link))


def units(text: str) -> list[int]:
    """ "1-10" or "1,3,247" -> numbers. Raises ValueError with the way out."""
    found: list[int] = []
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", part)
        low, high = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if not 0 <= low <= high <= 255:
            raise ValueError(f"{text!r} are no units; write them like 1-10 or 1,3,247, from 0 to 255")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def push(data: bytes) -> str | None:
    """Which kind of talking meter sent these bytes: "sml", "p1", "tic" or None."""
    if b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" in data:
        return "sml"
    if re.search(rb"\d-\d+:\d+\.\d+\.\d+(?:\*255)?\(", data):
        return "p1"
    # a group of TIC: LF, label, space or tab, value, the same again, checksum, CR
    if re.search(rb"\n[A-Z][A-Z0-9+\-]{2,8}([ \t])[^\r\n]{1,60}\1[ -_]\r", data):
        return "tic"
    return None


def identify(read: Read, maps: Iterable[Map]) -> list[Match]:
    """The models that fit what this unit answers, the best first; none when nothing proves any. Asks for nothing twice."""
    known: dict[tuple[int, int, int], Words | None] = {}

    def once(fc: int, address: int, count: int) -> Words | None:
        place = fc, address, count
        if place not in known:
            try:
                known[place] = read(*place)
            except MeterError:
                known[place] = None
        return known[place]

    found = [
        Match("sunspec", 1000, f'it says "SunS" at register {base}')
        for base in SUNSPEC_BASES
        if tuple(once(3, base, 2) or ()) == SUNS
    ][:1]
    for map_ in maps:
        match = _match(once, map_)
        if match is not None:
            found.append(match)
    return sorted(found, key=lambda match: (-match.score, match.model))


def _match(read: Read, map_: Map) -> Match | None:
    if not map_.regs:
        return None
    raw: dict[str, Words] = {}
    for block in sorted(plan(map_, "all"), key=lambda block: not _proves(map_, block)):  # what proves most is asked first
        words = read(block.fc, block.address, block.count)
        if words is None and not block.optional:
            return None
        for reg in block.regs if words is not None else ():
            start = reg.address - block.address
            raw[reg.name] = (words or ())[start : start + reg.count]
        if _proves(map_, block) and measure(map_, raw).quality != "good":
            return None
    reading = measure(map_, raw)
    proofs = [name for name in map_.ranges if name in reading.values]
    told = sum(bool(map_.regs[name].one_of) for name in raw)  # it says itself which model it is
    if reading.quality != "good":
        return None
    odd = [name for name, value in reading.values.items() if not _plausible(name, value)]
    live = [name for name, value in reading.values.items() if value and name not in odd]
    fits = [name for name, parts in map_.sums.items() if reading.values.get(name) and all(p in reading.values for p in parts)]
    products = [_product(reading.values, phase) for phase in ("l1", "l2", "l3")]
    score = (
        20 * told
        + 3 * len(proofs)
        + len(live)
        + 3 * len(fits)
        + 2 * products.count(True)
        - 3 * products.count(False)
        - 3 * len(odd)
    )
    if not (proofs or told):  # no volts, no hertz, nothing to add up: all that can be said is that it looks like watts
        return Match(map_.id, 1, f"w {reading.values.get('w')}, but nothing in it proves the model") if live and not odd else None
    shown = ", ".join(f"{name} {reading.values[name]}" for name in ("w", *proofs) if name in reading.values)
    return Match(map_.id, score, shown) if score > 1 else None


def _proves(map_: Map, block: Block) -> bool:
    parts = {part for name in map_.ranges for _, part in map_.derived.get(name, ((1, name),))}
    return any(reg.one_of or reg.name in parts for reg in block.regs)


def _plausible(name: str, value: Number) -> bool:
    if name.endswith("_wh"):
        return 0 <= value <= COUNTER_WH
    return all(low <= value <= high for start, low, high in PLAUSIBLE if name.startswith(start))


def _product(values: Mapping[str, Number], phase: str) -> bool | None:
    """Whether the phase's watts are no more than its volts by amps; None when it shows too little to tell."""
    w, v, a = (values.get(f"{kind}_{phase}") for kind in ("w", "v", "a"))
    if not w or not v or not a:
        return None
    return bool(abs(w) <= 1.1 * v * a + 20)


def toml_block(name: str, model: str, place: str, unit: int | None, link: tuple[int, str] | None, role: str = "grid") -> str:
    """The [[meter]] to paste into grid.toml. `link` is None where there is no serial line, `unit` where nobody asks for one."""
    if link is not None:
        where = [f'port = "{place}"', f"baud = {link[0]}", f'framing = "{link[1]}"']
    else:
        host, _, port = place.rpartition(":")
        where = [f'host = "{host.strip("[]")}"', f"tcp_port = {port}"]
    lines = [
        "[[meter]]",
        f'name = "{name}"',
        f'model = "{model}"',
        f'role = "{role}"  # what is wired through it: grid, load, pv, battery or generator',
        *where,
        *([] if unit is None else [f"unit = {unit}"]),
    ]
    return "\n".join(lines)


def found_json(place: str, unit: int | None, link: tuple[int, str] | None, models: Sequence[Match]) -> dict[str, object]:
    baud, framing = link or (None, None)
    fits = [{"model": match.model, "score": match.score, "why": match.why} for match in models]
    return {"place": place, "unit": unit, "baud": baud, "framing": framing, "models": fits}
