"""Boot the image in QEMU and pull its plug: what boot_test.sh runs. Prints a table of figures; exit code 1 if something failed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from board import RELAYS, pins, watchdog, wifi
from cuts import cuts
from guest import Guest, free_port, run
from testbed import BOOT_S, GRID, HERE, JOIN_S, Bench, Failed, pair, wait


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
    """The same card in QEMU's own Raspberry Pi 3: much slower, no meter, but with pins."""
    bench.pull()
    guest = bench.guest("pi", 9, machine="raspi3b", more=RELAYS)
    bench.start(guest)
    price = wait("price", 3 * BOOT_S, guest.price, [guest])
    bench.figure("boot to the first price (raspi3b)", f"{guest.age_s():.0f} s, price {price}")
    pins(bench, guest)
    guest.pull()


STAGES = {
    "build": build,
    "boot": boot,
    "pair": pair,
    "cuts": cuts,
    "wear": wear,
    "wifi": wifi,
    "watchdog": watchdog,
    "raspi3b": raspi3b,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/image/boot_test.sh", description=__doc__)
    parser.add_argument("--only", default=",".join(STAGES), help="stages: %(default)s")
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
                STAGES[stage](bench)
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
