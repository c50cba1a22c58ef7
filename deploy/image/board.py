"""What else is on a Pi's board: its radio, its watchdog, its pins; as far as QEMU and the kernel have them."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from guest import Guest
from testbed import BOOT_S, JOIN_S, Bench, Failed, wait

SSID, PASSWORD = "Oak's House", "acorns \\ and oaks"  # what a file's name and its lines cannot hold as they are
RELAYS = """
[[load]]
name = "heater"
pin = 27
rated_w = 2000
[[load]]
name = "pump"
pin = 5
rated_w = 500
active_low = true
safe = "off"
"""
INPUT, OUTPUT = 0, 1
HANDSHAKES, LEASE_S = 3, 150.0  # iwd's access point gives up a handshake that an emulated processor is too slow for

WIFI = f"""
[radio]
country = "DE"
[[wifi]]
ssid = "{SSID}"
password = '{PASSWORD}'
"""


def ivy(bench: Bench) -> Guest:
    """The card of the next two stages, running alone."""
    guest = bench.guest("ivy", 3, wifi=WIFI)
    guest.watched = True
    if not guest.runs():
        bench.pull()
        bench.start(guest)
        wait("price", BOOT_S, guest.price, [guest])
    return guest


def wifi(bench: Bench) -> None:
    """The network of wifi.toml: of two radios that hear each other alone one is made its access point, with addresses to give.

    On the way each reason for being outside is found on the boot partition: by the timer first, then by its service.
    """
    guest = ivy(bench)
    told(guest, bench.key, "no radio was found", look="true")  # the timer comes by itself
    station, point = guest.ssh(bench.key, RADIOS).split()
    told(guest, bench.key, f"{SSID} is not in reach. In reach: none.")
    guest.ssh(bench.key, POINT.format(point=point, ssid=SSID, password="beeches and oaks"))
    told(guest, bench.key, f"{SSID} is in reach, but does not let this node in. Is the password right?")
    begun_s = time.monotonic()
    for _ in range(HANDSHAKES):
        guest.ssh(bench.key, POINT.format(point=point, ssid=SSID, password=PASSWORD))
        with contextlib.suppress(Failed):
            shown = wait(f"address for {station}", LEASE_S, lambda: leased(guest, bench.key, station), [guest])
            break
    else:
        raise Failed(f"no address for {station}:\n{guest.ssh(bench.key, 'journalctl -b -u iwd --no-pager | tail')}")
    print(shown)
    bench.figure("Wi-Fi: in the network of wifi.toml, with an address", f"{time.monotonic() - begun_s:.0f} s")
    findings = json.loads(guest.ssh(bench.key, "grid doctor --json || true"))
    if [finding["ok"] for finding in findings if finding["name"] == "Wi-Fi"] != [True]:
        raise Failed(f"grid doctor should find the Wi-Fi well: {findings}")


def told(guest: Guest, key: Path, text: str, look: str = "systemctl start grid-wifi.service") -> None:
    """It comes to stand in grid-status.txt. `look`: the command that makes the node look anew."""

    def stands() -> bool:
        return f"  ! {text}" in guest.ssh(key, f"{look}; cat /boot/firmware/grid-status.txt")

    wait(f"{text!r} in grid-status.txt", BOOT_S, stands, [guest])
    print(f"  grid-status.txt: {text}", flush=True)


def leased(guest: Guest, key: Path, station: str) -> str:
    shown = guest.ssh(
        key, f"ip -4 -o address show dev {station} scope global; iwctl station {station} show | grep -E 'State|network|Security'"
    )
    return shown if "inet 10.77." in shown and SSID in shown else ""


RADIOS = """
modprobe mac80211_hwsim radios=2
until [ "$(ls -d /sys/class/net/*/phy80211 | wc -l)" = 2 ] && iwctl device list | grep -c station >/dev/null; do sleep 1; done
sleep 10 # iwd takes them down and makes its own
cd /sys/class/net && ls -d */phy80211 | cut -d/ -f1
"""
POINT = r"""
set -e
mkdir -p /run/systemd/network
printf '[Match]\nName={point}\n[Network]\nAddress=10.77.0.1/24\nDHCPServer=yes\n[DHCPServer]\nPersistLeases=no\n' \
    >/run/systemd/network/10-point.network
networkctl reload
iwctl device {point} set-property Mode ap
iwctl ap {point} stop 2>/dev/null || true
sleep 2
iwctl ap {point} start "{ssid}" '{password}'
"""


def instance(guest: Guest) -> str:
    """Of its agent, as it last said; each start has another."""
    return str(guest.record(guest.name, "state").get("instance", ""))


def another(guest: Guest, than: str) -> str:
    return str(wait("another instance", BOOT_S, lambda: (now := instance(guest)) != than and now, [guest]))


def watchdog(bench: Bench) -> None:
    """A kernel that stands still is restarted by the board's watchdog; an agent that does so by systemd."""
    guest = ivy(bench)
    first, begun_s = instance(guest), time.monotonic()
    guest.ssh(bench.key, "kill -STOP $(systemctl show -P MainPID grid)")
    second = another(guest, first)
    bench.figure("an agent that hangs is replaced, and heard, after", f"{time.monotonic() - begun_s:.0f} s")
    armed = guest.ssh(bench.key, "cat /sys/class/watchdog/watchdog0/{identity,state,timeout}").split("\n")
    bench.figure("the board's watchdog", " ".join(armed))
    begun_s = time.monotonic()
    hang(guest, bench.key)
    another(guest, second)
    back_s = time.monotonic() - begun_s
    up_s = float(guest.ssh(bench.key, "cat /proc/uptime").split()[0])
    bench.figure("a kernel that hangs is restarted after", f"{time.monotonic() - begun_s - up_s:.0f} s")
    bench.figure("and the node is heard again after", f"{back_s:.0f} s")


def hang(guest: Guest, key: Path) -> None:
    """A panic after which the kernel does nothing: only the watchdog ends that."""
    guest.ssh(key, "echo 0 >/proc/sys/kernel/panic; (sleep 3; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &")


def pins(bench: Bench, guest: Guest) -> None:
    """The relays of RELAYS, seen at the chip's registers: driven by the agent alone, safe at its end."""

    def expect(why: str, heater: tuple[int, int], pump: tuple[int, int]) -> None:
        wait(why, JOIN_S, lambda: (guest.pin(27), guest.pin(5)) == (heater, pump), [guest])
        print(f"  pins, {why}: heater {heater}, pump {pump}", flush=True)

    both_off = (OUTPUT, 0), (OUTPUT, 1)
    expect("driven by the plan", (OUTPUT, 1), (OUTPUT, 0))
    for name in ("heater", "pump"):
        guest.ssh(bench.key, f"grid load {name} off")
    expect("both off", *both_off)
    killed = instance(guest)
    guest.ssh(bench.key, "systemctl kill -s KILL grid")
    if (after := (guest.pin(27), guest.pin(5))) != both_off:
        raise Failed(f"after kill -9 the pins should be as they were: {after}")
    another(guest, killed)
    expect("both off after kill -9 and a new start", *both_off)
    guest.ssh(bench.key, "systemctl stop grid", timeout=JOIN_S)
    if (found := (guest.pin(27)[0], guest.pin(5)[0])) != (INPUT, INPUT):
        raise Failed(f"after the agent's end the pins should be inputs: {found}")
    bench.figure("pins follow the agent, keep their level after kill -9, are inputs after its end", "yes")
