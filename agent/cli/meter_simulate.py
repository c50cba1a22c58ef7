"""grid meter simulate: serve a pretend meter, with chosen values and faults, to try a configuration without hardware."""

import signal
import sys
import time
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NoReturn, cast

import click

from agent.cli.words import PROBLEM, USAGE, fail, say
from drivers import catalog
from drivers.reading import QUANTITIES
from drivers.registers import Map, MapError

if TYPE_CHECKING:
    from drivers.served import Served

IDLE_W, JITTER_W = 1200, 50  # where the watts walk while nobody has --set them


@click.command()
@click.argument("model")
@click.option("--tcp", "tcp_port", type=click.IntRange(0, 65535), help="Serve Modbus TCP on this port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --tcp: the address to listen on.")
@click.option("--pty", "on_pty", is_flag=True, help="Serve Modbus RTU on a new pretend serial port.")
@click.option("--unit", type=click.IntRange(1, 247), help="Default: the model's own.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Like w=1200 or v_l1=231; may be given often.")
@click.option("--battery", type=click.Choice(["124", "704"]), help="With sunspec: a battery that takes set-points by that model.")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Answer badly; --fault list shows how. Several take turns.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="With --fault: only each N-th request.")
def simulate(
    model: str,
    tcp_port: int | None,
    host: str,
    on_pty: bool,
    unit: int | None,
    given: tuple[str, ...],
    battery: str | None,
    faults: tuple[str, ...],
    every: int,
) -> None:
    """Be a meter MODEL until Ctrl-C, over TCP or on a pretend serial port; p1, sml and tic send a telegram each second.

    A value that was --set stands still; the others live, and the counters count. Prints what to write into grid.toml.
    """
    from drivers.faults import FAULTS, OF_TELEGRAMS, SERIAL_ONLY, TCP_ONLY, Faulty, spoiled
    from drivers.pretend import TELEGRAMS
    from drivers.served import Served
    from drivers.simulated import Entry, Scene, SimulatedMeter

    if "list" in faults:
        for name, what in (_battery_faults() if battery else FAULTS).items():
            say(f"{name:16}{what}")
        return
    if (tcp_port is None) == (not on_pty):
        fail("choose one of --tcp PORT and --pty", USAGE)
    try:
        map_ = catalog.find(model)
    except MapError as error:
        fail(str(error), USAGE)
    if battery is not None:
        _be_battery(map_, battery, tcp_port, host, map_.unit if unit is None else unit, given, faults)
    talks = map_.protocol in TELEGRAMS
    if map_.protocol not in ("modbus", "sunspec", *TELEGRAMS) or (talks and not on_pty):
        fail(f"{map_.id} speaks {map_.protocol}; " + ("use --pty" if talks else "it cannot be simulated yet"), USAGE)
    for fault in faults:
        if fault not in FAULTS:
            fail(f"no fault {fault!r}; {_near(fault, FAULTS)}", USAGE)
        if fault in (TCP_ONLY if on_pty else SERIAL_ONLY):
            fail(f"{fault}: {FAULTS[fault]}; use {'--tcp PORT' if on_pty else '--pty'} or another fault", USAGE)
        if talks and fault not in OF_TELEGRAMS:
            fail(f"{fault}: {map_.id} is not asked, it talks; choose of {', '.join(sorted(OF_TELEGRAMS))}", USAGE)
    values = chosen(map_, given)
    unit = map_.unit if unit is None else unit
    try:
        jitter_w = 0 if "w" in values else JITTER_W
        entry = Entry("", 0, unit, model, fixed={"w": IDLE_W, **values}, period_s=1.0, jitter_w=jitter_w)
        meter = SimulatedMeter(entry, Scene(()), time.time())
    except ValueError as error:
        fail(str(error), USAGE)
    served = Served(Faulty(map_, unit, meter.held, faults, every, seed=1))
    # before the path is told: who reads it may end us at once
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: served.stop())
    random, numbers = Random(1), count(1)

    def telegram(now: float) -> bytes:
        n = next(numbers)
        fault = faults[(n // every - 1) % len(faults)] if faults and n % every == 0 else ""
        return spoiled(fault, TELEGRAMS[map_.protocol](meter.values(now)), random)

    if talks:
        place = served.talk_on_pty(telegram)
    else:
        place = served.on_pty(map_.baud) if tcp_port is None else _listen(served, host, tcp_port)
    _tell(map_, model, None if talks else unit, place, on_pty)
    if faults:
        what = "telegram" if talks else "request"
        say(f"# faults: {', '.join(faults)}, at each {what}" + (f" number {every}, {2 * every}, …" if every > 1 else ""))
    say("ready; Ctrl-C ends it")
    served.run()
    sys.exit(0)


def _listen(served: "Served", host: str, tcp_port: int) -> str:
    try:
        return f"{host}:{served.on_tcp(host, tcp_port)}"
    except OSError as error:
        fail(f"cannot listen on {host}:{tcp_port} ({error.strerror}); choose another --tcp PORT, or 0 for a free one", PROBLEM)


def _battery_faults() -> Mapping[str, str]:
    from drivers.simulated_battery import FAULTS

    return FAULTS


def _be_battery(
    map_: Map, model: str, tcp_port: int | None, host: str, unit: int, given: tuple[str, ...], faults: tuple[str, ...]
) -> NoReturn:
    """A battery of 5000 W and 10 kWh until Ctrl-C, its state of charge at soc_pct."""
    from drivers.served import Served
    from drivers.setpoint import Control
    from drivers.simulated_battery import PretendBattery

    known = _battery_faults()
    if map_.protocol != "sunspec":
        fail(f"--battery: {map_.id} is no SunSpec device; use grid meter simulate sunspec --battery {model}", USAGE)
    for fault in faults:
        if fault not in known:
            fail(f"no fault {fault!r} of a battery; {_near(fault, known)}", USAGE)
    if len(faults) > 1:
        fail("a battery has one fault at a time; give --fault once", USAGE)
    values = chosen(map_, given)
    for name in values:
        if name not in ("hz", "soc_pct"):
            fail(f"--set {name}: a battery shows what it does; only soc_pct and hz can be set", USAGE)
    hz, energy_wh = float(values.get("hz", 50.0)), 10_000
    soc_wh = energy_wh * float(values.get("soc_pct", 50.0)) / 100
    control = cast(Control, f"sunspec-{model}")
    pretend = PretendBattery(control, unit, energy_wh=energy_wh, soc_wh=soc_wh, hz=lambda _: hz)
    pretend.fault = faults[0] if faults else ""
    served = Served(pretend)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: served.stop())
    place = served.on_pty(map_.baud) if tcp_port is None else _listen(served, host, tcp_port)
    _tell(map_, map_.id, unit, place, tcp_port is None, "battery")
    say(f'[battery]\nmeter = "simulated"\npower_w = {pretend.power_w}\nenergy_wh = {energy_wh}\ncontrol = "{control}"\n')
    if faults:
        say(f"# fault: {faults[0]}: {known[faults[0]]}")
    say("ready; Ctrl-C ends it")
    served.run()
    sys.exit(0)


def _tell(map_: Map, model: str, unit: int | None, place: str, on_pty: bool, role: str = "grid") -> None:
    from agent.cli.scan import toml_block

    own = str(Path(model).resolve()) if model.endswith(".toml") else map_.id
    # a pseudo-terminal knows no parity: Linux refuses every framing but 8N1 on it
    link = (map_.baud, "8N1") if on_pty else None
    say(f"{map_.id}{'' if unit is None else f', unit {unit}'}, at {place}")
    say(f"# paste into grid.toml, then: grid meter read simulated\n{toml_block('simulated', own, place, unit, link, role)}")


def chosen(map_: Map, given: tuple[str, ...]) -> Mapping[str, int | float]:
    """The values of all --set; says what is wrong with one and ends. Watts of phases make the total that is not given."""
    values: dict[str, int | float] = {}
    from drivers.pretend import SHOWN

    others = SHOWN.get(map_.protocol, QUANTITIES if map_.protocol == "sunspec" else ())
    shown = [name for name in QUANTITIES if name in map_.regs or name in map_.derived or name in others]
    for setting in given:
        name, _, number = setting.partition("=")
        if name not in shown:
            fail(f"--set {setting}: {map_.id} has no register for {name!r}; {_near(name, shown)}", USAGE)
        try:
            value = float(number)
        except ValueError:
            fail(f"--set {setting}: {number!r} is no number; write it like {name}=1200", USAGE)
        if value != value or abs(value) > 1e15:
            fail(f"--set {setting}: no meter shows that; write it like {name}=1200", USAGE)
        low, high = map_.ranges.get(name, (value, value))
        if not low <= value <= high:
            say(f"{name} = {value:g} is outside {float(low):g} to {float(high):g}: its readings will be suspect", err=True)
        values[name] = int(value) if value.is_integer() else value
    phases = [name for name in ("w_l1", "w_l2", "w_l3") if name in shown]
    if "w" in values or not any(name in values for name in phases):
        return values
    values = {**dict.fromkeys(phases, 0), **values}
    return {**values, "w": sum(values[name] for name in phases)}


def _near(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
