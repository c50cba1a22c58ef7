"""grid meter scan: look for meters on the serial ports or at a host, and print what to write into grid.toml."""

import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from agent.cli import scan as search
from agent.cli.main import json_option
from agent.cli.words import PROBLEM, USAGE, fail, say, say_json
from drivers import catalog
from drivers.modbus import Bus, Line, Refusal
from drivers.reading import MeterError
from drivers.registers import Block, Map, Words
from drivers.stream import Stream

PROBES = (Block(4, 0, 2, ()), Block(3, 0, 2, ()))  # whoever hears its own number answers, if only with a refusal
ANSWER_S = 0.15  # of a probe, beside the time that its bytes take
HOST_S = 0.5
ENOUGH = 200  # bytes before a silence: a whole telegram
MORE_UNITS = (255, 247, 100, 0)  # of devices that speak TCP themselves
NOT_THERE = (10, 11)  # exceptions of a gateway that got no answer
CHECK_SERIAL = (
    "nothing found. Check, in this order: does the meter have power (its display is on)? Are A and B the right way round? "
    "(swapping them harms nothing; try it) Is the meter's own menu set to Modbus RTU, and to which baud rate and unit? "
    "Longer numbers than 10: --units 1-247"
)
CHECK_HOST = (
    "nothing found. Check: is Modbus TCP switched on in the device's menu? Behind a gateway: its serial baud rate and framing, "
    "power and wiring of the meter, and other units: --units 1-247"
)


class Found(NamedTuple):
    place: str
    unit: int | None
    link: tuple[int, str] | None
    models: Sequence[search.Match]


class Progress:
    """A bar on a terminal, else a line a new stage; on stderr, so that stdout is what was found."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._said, self._bar = max(1, steps), 0, {""}, sys.stderr.isatty()
        self._wide = max(20, min(78, shutil.get_terminal_size().columns - 2)) if self._bar else 0

    def step(self, stage: str, detail: str = "") -> None:
        self._done = min(self._done + 1, self._steps)
        if self._bar:
            full = 24 * self._done // self._steps
            line = f"[{'#' * full}{'-' * (24 - full)}] {stage} {detail}"
            sys.stderr.write(f"\r{line[: self._wide]:{self._wide}}")
            sys.stderr.flush()
        elif stage not in self._said:
            say(f"{stage} ...", err=True)
            self._said.add(stage)

    def end(self) -> None:
        if self._bar:
            sys.stderr.write(f"\r{'':{self._wide}}\r")
            sys.stderr.flush()


class Prober:
    """Asks units of one line. Each question comes at a later moment of the bus, so that its back-off never silences us."""

    def __init__(self, line: Line, registers: int, units: Sequence[int], delay_s: float = 0.0) -> None:
        """`delay_s`: some devices answer nothing in the first second of a connection."""
        self._bus = Bus(line, HOST_S if line.host is not None else ANSWER_S)
        for unit in units:
            self._bus.expect(unit, registers, self._bus.timeout_s, delay_s)
        self._now = 0.0
        self._bus.open()

    def close(self) -> None:
        self._bus.close()

    def ask(self, unit: int, block: Block) -> Words | None:
        """None when it refuses. Raises MeterError when it does not answer."""
        self._now += 1000.0
        try:
            return self._bus.read_block(unit, block, self._now)
        except Refusal as refusal:
            if refusal.code in NOT_THERE:
                raise
            return None

    def is_there(self, unit: int, blocks: Sequence[Block]) -> bool:
        for block in blocks:
            try:
                self.ask(unit, block)
            except MeterError:
                continue
            return True
        return False


def heard(line: Line, for_s: float) -> bytes:
    """What comes of its own accord. Raises MeterError when the port cannot be opened with these settings."""
    stream, data, end = Stream(line), b"", time.monotonic() + for_s
    try:
        while True:
            piece = stream.read(0.1)
            data += piece
            if time.monotonic() >= end or (len(data) >= ENOUGH and not piece):
                return data
    finally:
        stream.close()


def models_at(line: Line, unit: int, maps: Sequence[Map], delay_s: float = 0.0) -> list[search.Match]:
    prober = Prober(line, 80, [unit], delay_s)
    try:
        return search.identify(lambda fc, address, count: prober.ask(unit, Block(fc, address, count, ())), maps)
    finally:
        prober.close()


def on_port(port: str, units: Sequence[int], listen_s: float, maps: Sequence[Map]) -> Iterator[Found]:
    """What is on a serial port. Raises MeterError when it cannot be opened at all."""
    links, likely = search.settings(maps), search.likely(maps)
    progress = Progress(len(search.PUSH) + len(likely) + len(links) * len(units))
    try:
        heard(Line(None, None, port), 0.0)
        for baud, framing in search.PUSH if listen_s > 0 else ():
            progress.step(f"{port}: listening", f"at {baud} {framing}")
            try:
                kind = search.push(heard(Line(None, None, port, baud, framing), listen_s))
            except MeterError:  # this port has no such framing
                continue
            if kind is not None:
                yield Found(port, None, (baud, framing), [search.Match(kind, 1000, "it talks of its own accord")])
                return
        link = _answering(port, likely, links, units, maps, progress)
        if link is None:
            return
        line = Line(None, None, port, *link)
        all_units = sorted({*units, *(unit for baud, framing, unit in likely if (baud, framing) == link)})
        for unit in _answering_units(line, all_units, 0.0, progress):
            progress.step(f"{port}: reading unit {unit}")
            yield Found(port, unit, link, models_at(line, unit, maps))
    finally:
        progress.end()


def _answering(
    port: str,
    likely: Sequence[tuple[int, str, int]],
    links: Sequence[tuple[int, str]],
    units: Sequence[int],
    maps: Sequence[Map],
    progress: Progress,
) -> tuple[int, str] | None:
    """The first baud rate and framing at which some unit answers: factory settings first, then all units."""
    tries = [(baud, framing, [unit]) for baud, framing, unit in likely] + [(baud, framing, list(units)) for baud, framing in links]
    for baud, framing, those in tries:
        prober = Prober(Line(None, None, port, baud, framing), 2, those)
        try:
            for unit in those:
                progress.step(f"{port}: asking at {baud} {framing}", f"unit {unit}")
                if prober.is_there(unit, PROBES):
                    return baud, framing
        finally:
            prober.close()
    return None


def at_host(host: str, port: int, units: Sequence[int], maps: Sequence[Map]) -> Iterator[Found]:
    """What is at a Modbus TCP port. Raises OSError when nobody listens there."""
    import socket

    socket.create_connection((host, port), 3.0).close()
    line, place = Line(host, port, None), f"{host}:{port}"
    asked = list(dict.fromkeys([*units, *MORE_UNITS]))
    slow = [map_ for map_ in maps if map_.connect_delay_s]
    progress = Progress(len(asked) + 2)
    try:
        delay_s, there = 0.0, _answering_units(line, asked, 0.0, progress)
        if not there and slow:
            delay_s = max(map_.connect_delay_s for map_ in slow)
            there = _answering_units(line, sorted({map_.unit for map_ in slow}), delay_s, progress)
        if len(there) == len(asked) > 2:  # it does not look at the number
            there = there[:1]
        for unit in there:
            progress.step(f"{place}: reading unit {unit}")
            yield Found(place, unit, None, models_at(line, unit, maps, delay_s))
    finally:
        progress.end()


def _answering_units(line: Line, units: Sequence[int], delay_s: float, progress: Progress) -> list[int]:
    prober = Prober(line, 2, units, delay_s)
    try:
        there = []
        for unit in units:
            progress.step(f"{line}: asking", f"unit {unit}")
            if prober.is_there(unit, PROBES):
                there.append(unit)
        return there
    finally:
        prober.close()


@click.command()
@click.argument("place", required=False, metavar="[PORT|HOST[:PORT]]")
@click.option("--units", "units_text", default="1-10", show_default=True, help="Which unit numbers to ask, like 1-10 or 1,3,247.")
@click.option("--listen", "listen_s", type=click.FloatRange(0, 60), default=2.5, show_default=True, help="Seconds a setting.")
@json_option
def scan(place: str | None, units_text: str, listen_s: float, as_json: bool) -> None:
    """Look for meters: on a serial PORT like /dev/ttyUSB0, at a HOST (Modbus TCP), or on every serial port.

    A running agent owns its ports: stop it first. Exit code 1 when nothing was found.
    """
    try:
        units = search.units(units_text)
    except ValueError as error:
        fail(f"--units: {error}", USAGE)
    maps = list(catalog.models().values())
    if place is not None and re.fullmatch("tty[A-Za-z]+[0-9]+", place):
        place = f"/dev/{place}"
    host = None if place is None or "/" in place or place.upper().startswith("COM") else _host(place)
    found: list[Found] = []
    wrong: list[str] = []
    try:
        if host is not None:
            try:
                found += _told(at_host(*host, units, maps), as_json)
            except OSError as error:
                wrong.append(f"{host[0]}:{host[1]}: no connection ({error}); is it on, in this network, and the address right?")
        else:
            for port in _ports() if place is None else [place]:
                try:
                    found += _told(on_port(port, [unit for unit in units if 1 <= unit <= 247], listen_s, maps), as_json)
                except MeterError as error:
                    wrong.append(str(error))
    except KeyboardInterrupt:
        wrong.append("interrupted")
    if as_json:
        say_json({"found": [search.found_json(*one) for one in found], "problems": wrong})
    for problem in wrong:
        say(f"grid: {problem}", err=True)
    if not found:
        if not wrong:
            say(f"grid: {CHECK_HOST if host else CHECK_SERIAL}", err=True)
        sys.exit(PROBLEM)


def _ports() -> list[str]:
    from drivers.stream import ports

    found = ports()
    if not found:
        fail(
            "this machine has no serial port; plug in the USB adapter (dmesg shows its name), or name a host: grid meter scan HOST"
        )
    say(f"serial ports: {', '.join(found)}", err=True)
    return found


def _host(place: str) -> tuple[str, int]:
    head, colon, tail = place.rpartition(":")
    if not colon or "]" in tail or (":" in head and not head.startswith("[")):  # a bare IPv6 address has many colons
        return place.strip("[]"), 502
    if not tail.isdigit() or not 0 < int(tail) < 65536:
        fail(f"{place!r}: {tail!r} is no TCP port; write it like 192.168.1.50:502", USAGE)
    return head.strip("[]"), int(tail)


def _told(finds: Iterator[Found], as_json: bool) -> Iterator[Found]:
    for one in finds:
        if not as_json:
            _tell(one)
        yield one


def _tell(one: Found) -> None:
    at = f" at {one.link[0]} {one.link[1]}" if one.link else ""
    who = one.place if one.unit is None else f"{one.place}, unit {one.unit}"
    say(f"\n# {who}{at}")
    if not one.models:
        say("# it answers, but no known model fits: grid meter models lists them; a map of your own may be named by its path")
        return
    for match in one.models[:3]:
        say(f"# {match.model}: {match.why}")
    if len(one.models) > 1:
        say("# take the model whose name stands on the meter")
    name = "meter" if one.unit is None else f"meter-{one.unit}"
    say(search.toml_block(name, one.models[0].model, one.place, one.unit, one.link))
