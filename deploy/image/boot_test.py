"""Boot the image in QEMU and pull its plug: what boot_test.sh runs. Prints a table of figures; exit code 1 if something failed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guest import Guest, Meter, free_port, run

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
GRID = CHECKOUT / ".venv/bin/grid"
STAGES = ("build", "boot", "pair", "cuts", "wear", "raspi3b")
BOOT_S = 900.0  # an emulated boot on a busy machine
JOIN_S = 600.0


class Failed(Exception):
    """What must hold does not."""


class Bench:
    """The table of what was measured, the guests, and the places they use."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.image: Path = options.image or folder / "image"
        self.rows: list[tuple[str, str]] = []
        self.random = random.Random(options.seed)
        self.meters = contextlib.ExitStack()
        self.guests: dict[str, Guest] = {}
        self.meter_of: dict[str, str] = {}
        self.key = folder / "key"
        self.wire = free_port()

    def figure(self, what: str, value: object) -> None:
        self.rows.append((what, str(value)))
        print(f"  {what}: {value}", flush=True)

    def guest(self, name: str, number: int, join: str | None = None, machine: str = "virt") -> Guest:
        """A card with this configuration, made once."""
        if name not in self.guests:
            guest = Guest(self.folder / name, self.image, name, number, machine)
            if machine == "virt":
                meter = Meter(GRID, "eastron-sdm630", [f"w={1000 * number}"])
                self.meters.callback(meter.close)
                self.meter_of[name] = meter.terminal
            guest.edit(
                {"grid.toml": settings(name, number, join, machine == "virt"), "ssh.pub": self.key.with_suffix(".pub").read_text()}
            )
            self.guests[name] = guest
        return self.guests[name]

    def start(self, guest: Guest) -> None:
        guest.start(self.meter_of.get(guest.name), self.wire if guest.machine == "virt" else None)

    def close(self) -> None:
        for guest in self.guests.values():
            guest.pull()
        self.meters.close()


def settings(name: str, number: int, join: str | None, meter: bool) -> str:
    """A user's grid.toml: the open mode, slots of a minute, so that counters move within the test."""
    text = f'[node]\nid = "{name}"\nplace = "Card {number}"\nrated_w = 17250\n[tariff]\nslot_min = 1\n[network]\nclosed = false\n'
    text += f'join = ["{join}.local:1883"]\n' if join else ""
    if meter:
        text += f'[[meter]]\nname = "house"\nmodel = "eastron-sdm630"\nrole = "grid"\nport = "/dev/grid/meter-METER{number}"\n'
    return text


def wait(what: str, limit_s: float, seen: Callable[[], Any], guests: list[Guest]) -> Any:
    """What is seen when it is true. Raises Failed when it does not come, or a guest ends."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if found := seen():
            return found
        for guest in guests:
            if not guest.runs():
                raise Failed(
                    f"{guest.name} ended while waiting for {what}:\n{(guest.folder / 'qemu.log').read_text()}\n{guest.last_words()}"
                )
        time.sleep(0.5)
    raise Failed(f"no {what} after {limit_s:.0f} s; the end of {guests[0].name}'s console:\n{guests[0].last_words()}")


def sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# stages


def build(bench: Bench) -> None:
    """Cold (without a cache), warm (after a change of the code), and once more for the checksum."""
    cache, out = bench.options.cache or bench.folder / "cache", bench.options.out or HERE / "out"
    sums = []
    for what, more in (("cold", ["--fresh"]), ("warm", []), ("warm, again", [])):
        if what == "cold" and bench.options.warm:
            continue
        begun_s = time.monotonic()
        done = subprocess.run([HERE / "build.sh", "--out", out, "--cache", cache, *more], check=False)
        if done.returncode:
            raise Failed(f"build.sh {what} failed")
        bench.figure(f"build, {what}", f"{time.monotonic() - begun_s:.0f} s")
        packed = next(iter(out.glob("grid-*-arm64.img.xz")))
        sums.append(sha(packed))
        bench.figure(f"sha256, {what}", sums[-1])
    if len(set(sums)) != 1:
        raise Failed("two builds of the same are not the same")


def unpack(bench: Bench) -> None:
    """The very image, as it would be flashed."""
    if bench.options.image is None:
        found = sorted((bench.options.out or HERE / "out").glob("grid-*-arm64.img.xz"))
        if not found:
            raise Failed("there is no image: run deploy/image/build.sh, or name one with --image")
        with bench.image.open("wb") as file:
            subprocess.run(["xz", "-dc", found[-1]], stdout=file, check=True)
        bench.figure("packed", f"{found[-1].stat().st_size / 1e6:.0f} MB")
    bench.figure("image", f"{bench.image.stat().st_size / 1e6:.0f} MB")


LOOK = r"""
echo "overlay: $(findmnt -no FSTYPE /) data: $(findmnt -no SIZE /data)"
echo "boot: $(findmnt -no OPTIONS /boot/firmware | cut -d, -f1)"
echo "host: $(hostname)"; echo "root: $(grep ^root /etc/shadow | cut -d: -f2)"
echo "failed: $(systemctl --failed --plain --no-legend | cut -d' ' -f1 | xargs)"
for unit in grid grid-mosquitto; do
    echo "rss $unit $(awk '/VmRSS/ {print $2}' "/proc/$(systemctl show -P MainPID $unit)/status")"
    echo "security $unit $(systemd-analyze security $unit.service --no-pager | tail -1 | grep -oE '[0-9]+\.[0-9]')"
done
echo "used $(free -k | awk '/^Mem/ {print $3}')"; ls -l /dev/grid
"""


def boot(bench: Bench) -> None:
    """One card: the first price, and a look inside with the user's key."""
    guest = bench.guest("oak", 1)
    bench.start(guest)
    price = wait("price", BOOT_S, guest.price, [guest])
    bench.figure("boot to the first price (virt)", f"{guest.age_s():.0f} s, price {price}")
    record = wait("reading", JOIN_S, lambda: (state := guest.record("oak", "state")).get("quality") == "good" and state, [guest])
    bench.figure("boot to the first reading through USB", f"{guest.age_s():.0f} s, {record['net_w']} W")
    if record["net_w"] != -1000 or record["rated_w"] != 17250:
        raise Failed(f"the meter says 1000 W taken, grid.toml 17250 W; the record {record}")
    look = guest.ssh(bench.key, LOOK)
    print(look)
    found = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in look.splitlines() if " " in line}
    agent, broker = int(found["rss grid"]), int(found["rss grid-mosquitto"])
    bench.figure("RSS of the node", f"{(agent + broker) / 1024:.1f} MiB: agent {agent / 1024:.1f}, Mosquitto {broker / 1024:.1f}")
    bench.figure("memory in use, all of the system", f"{int(found['used']) / 1024:.0f} MiB")
    bench.figure("systemd-analyze security", f"grid {found['security grid']}, grid-mosquitto {found['security grid-mosquitto']}")
    for wanted in ("overlay: overlay", "boot: ro", "host: oak", "root: *", "failed: \n", "meter-METER1 ->"):
        if wanted not in look:
            raise Failed(f"in the node it should say {wanted!r}:\n{look}")


def pair(bench: Bench) -> None:
    """Two cards: the second one's grid.toml names the first, and both have one price and each other."""
    oak, elm = bench.guest("oak", 1), bench.guest("elm", 2, join="oak")
    for guest in (oak, elm):
        if not guest.runs():
            bench.start(guest)
    for guest in (oak, elm):
        wait(f"price of {guest.name}", BOOT_S, guest.price, [elm, oak])
    begun_s = time.monotonic()
    joined(bench, [oak, elm])
    bench.figure("pair joined, after both had a price", f"{time.monotonic() - begun_s:.0f} s")
    bench.figure("their price", " and ".join(str(guest.price()) for guest in (oak, elm)))


def joined(bench: Bench, guests: list[Guest]) -> None:
    """Each counts all, with readings, and says the same."""
    names = {guest.name for guest in guests}

    def agree() -> bool:
        views = [guest.messages("grid/price", "grid/net", "grid/node/+/state", wait_s=4) for guest in guests]
        states = [{json.loads(text)["quality"] for topic, text in view.items() if topic.endswith("/state")} for view in views]
        counted = [{topic.split("/")[2] for topic in view if topic.endswith("/state")} for view in views]
        same = len({(view.get("grid/price"), view.get("grid/net")) for view in views}) == 1
        return same and all(one == names for one in counted) and all(one == {"good"} for one in states)

    wait("agreement of " + " and ".join(sorted(names)), JOIN_S, agree, guests)


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


def wear(bench: Bench) -> None:
    """What an idle network of four writes to one card: two cards and two nodes outside that joined one of them."""
    pair(bench)
    oak, elm = bench.guests["oak"], bench.guests["elm"]
    with outside(bench, oak, ("ash", "fir")):
        wait("four nodes", JOIN_S, lambda: len(oak.messages("grid/node/+/state", wait_s=4)) == 4, [oak, elm])
        time.sleep(60)
        begun_s, before = time.monotonic(), oak.written()
        time.sleep(bench.options.minutes * 60)
        written, took_s = oak.written() - before, time.monotonic() - begun_s
    bench.figure(f"written to the card in {took_s / 60:.0f} min, 4 nodes, slots of 1 min", f"{written / 1e3:.0f} kB")
    bench.figure("of that a day", f"{written * 86400 / took_s / 1e6:.1f} MB")


@contextlib.contextmanager
def outside(bench: Bench, guest: Guest, names: tuple[str, ...]) -> Iterator[None]:
    """Nodes on this machine that join this guest's."""
    with contextlib.ExitStack() as stack:
        for name in names:
            folder = bench.folder / name
            folder.mkdir(exist_ok=True)
            port = free_port()
            text = f'[node]\nid = "{name}"\nrated_w = 17250\n[mqtt]\nport = {port}\nbind = "127.0.0.1"\n'
            text += f'[network]\njoin = ["127.0.0.1:{guest.mqtt}"]\n[state]\ndir = "{folder}/state"\n'
            (folder / "grid.toml").write_text(text)
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen([GRID, "run", "--broker", "-c", folder / "grid.toml"], stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        yield


def raspi3b(bench: Bench) -> None:
    """The same card in QEMU's own Raspberry Pi 3: much slower, no meter."""
    for guest in bench.guests.values():
        guest.pull()
    guest = bench.guest("pi", 9, machine="raspi3b")
    bench.start(guest)
    price = wait("price", 3 * BOOT_S, guest.price, [guest])
    bench.figure("boot to the first price (raspi3b)", f"{guest.age_s():.0f} s, price {price}")
    guest.pull()


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/image/boot_test.sh", description=__doc__)
    parser.add_argument("--only", default="build,boot,pair,cuts,wear", help="stages, of " + ",".join(STAGES))
    parser.add_argument("--image", type=Path, help="an image that is not packed; else the one in --out")
    parser.add_argument("--out", type=Path, help="where build.sh puts it (deploy/image/out)")
    parser.add_argument("--cache", type=Path, help="for build: this cache, not an empty one of its own")
    parser.add_argument("--warm", action="store_true", help="for build: leave the cold one out")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--rest-s", type=float, default=60, help="a node runs at most so long between two cuts")
    parser.add_argument("--minutes", type=float, default=20, help="for wear: how long to count")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    stages = options.only.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends, too
    with tempfile.TemporaryDirectory(prefix="grid-boot-", dir="/var/tmp") as name:
        bench = Bench(options, Path(name))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", bench.key)
        bench.figure("seed", options.seed)
        failed = ""
        try:
            for stage in stages:
                print(f"== {stage}", flush=True)
                if stage != "build" and not any(what == "image" for what, _ in bench.rows):
                    unpack(bench)
                {"build": build, "boot": boot, "pair": pair, "cuts": cuts, "wear": wear, "raspi3b": raspi3b}[stage](bench)
        except (Failed, RuntimeError, subprocess.SubprocessError) as error:
            failed = f"{stage}: {error}"
        finally:
            bench.close()
    print("\n== figures")
    for what, value in bench.rows:
        print(f"{what:52} {value}")
    print(f"FAILED in {failed}" if failed else "all as it should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
