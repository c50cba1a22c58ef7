"""The image in QEMU: one virtual Pi, its card, its plug; what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FAT = 8 << 20  # where p1 begins in the image
CARD = 2 << 30  # bytes; raspi3b wants a power of two
MQTT, SSH = 1883, 22  # ports in the guest


def run(*command: str | Path, timeout: float = 120) -> str:
    """What it printed. Raises RuntimeError with what it complained of."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))[:200]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Guest:
    """One card with its virtual Pi. `pull` is the plug: nothing in there gets a last word."""

    def __init__(self, folder: Path, image: Path, name: str, number: int, machine: str = "virt", port: int = MQTT) -> None:
        """`number`, from 1 on, makes its addresses; `port` is that of the guest's broker that is forwarded."""
        self.folder, self.name, self.number, self.machine, self._inside = folder, name, number, machine, port
        self.card = folder / "card.img"
        self.mqtt, self.ssh_port = free_port(), free_port()
        self.watched = False  # it has a watchdog, which resets it
        self.begun_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._plugged: tuple[str | None, int | None] = (None, None)
        folder.mkdir(parents=True)
        run("cp", "--sparse=always", image, self.card)
        os.truncate(self.card, CARD)
        for inside, outside in (("vmlinuz",) * 2, ("initrd.img",) * 2, ("cmdline.txt",) * 2, ("bcm2837-rpi-3-b.dtb", "pi3.dtb")):
            run("mcopy", "-n", "-o", "-i", f"{self.card}@@{FAT}", f"::/{inside}", folder / outside)
        # a Pi's firmware tells its model there (3 B here); gpiozero asks for it
        run("fdtput", "-p", "-t", "x", folder / "pi3.dtb", "/system", "linux,revision", "a02082")

    def edit(self, files: Mapping[str, str]) -> None:
        """As a user does on a PC: write files onto the boot partition."""
        for name, text in files.items():
            (self.folder / name).write_text(text)
            run("mcopy", "-o", "-i", f"{self.card}@@{FAT}", self.folder / name, f"::/{name}")

    def read_card(self, name: str) -> str:
        """A file of the boot partition, "" if it is not there."""
        done = subprocess.run(["mtype", "-i", f"{self.card}@@{FAT}", f"::/{name}"], capture_output=True, text=True, check=False)
        return done.stdout

    def start(self, meter: str | None = None, wire: int | None = None) -> None:
        """`meter`: the pseudo-terminal of a serial meter; `wire`: a port of the loopback, on which guests hear each other."""
        self._plugged = (meter, wire)
        doors = ",".join(
            f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ((self.mqtt, self._inside), (self.ssh_port, SSH))
        )
        net = f"user,id=host,restrict=on,{doors}"
        words = re.sub(r"console=\S+ |quiet", "", (self.folder / "cmdline.txt").read_text()).split()
        words += [f"systemd.machine_id={self.number:032x}", "systemd.default_device_timeout_sec=900", "loglevel=4"]
        serial = ["-serial", f"file:{self.folder}/console.log"]
        drive = f"file={self.card},format=raw,cache=writeback"
        if self.machine == "virt":
            # static towards the host: the other card's link-local addresses then have one way only
            words += ["console=ttyAMA0", "net.ifnames=0", "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"]
            board = ["-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "1024"]
            board += ["-drive", f"if=none,id=card,{drive}", "-device", "virtio-blk-pci,drive=card,addr=4"]
            board += ["-netdev", net, "-device", "virtio-net-pci,netdev=host,romfile=,addr=2", "-device", "virtio-rng-pci,addr=5"]
            if wire is not None:
                board += ["-netdev", f"socket,id=wire,mcast=230.71.82.68:{wire},localaddr=127.0.0.1"]
                board += ["-device", f"virtio-net-pci,netdev=wire,romfile=,addr=3,mac=52:54:00:47:52:{self.number:02x}"]
            if meter is not None:
                board += ["-device", "qemu-xhci,addr=6", "-chardev", f"serial,id=meter,path={meter}"]
                board += ["-device", f"usb-serial,chardev=meter,serial=METER{self.number}"]
            if self.watched:
                board += ["-device", "i6300esb,addr=7", "-action", "watchdog=reset"]
        else:
            words += ["console=ttyS1,115200", "systemd.watchdog_sec=off", "module_blacklist=bcm2835_wdt"]
            board = ["-M", "raspi3b", "-m", "1024", "-dtb", str(self.folder / "pi3.dtb"), "-drive", f"if=sd,{drive}"]
            board += ["-netdev", net, "-device", "usb-net,netdev=host"]
            serial = ["-serial", "null", *serial]
        (self.folder / "qmp").unlink(missing_ok=True)
        command = [
            "qemu-system-aarch64",
            *board,
            *serial,
            "-display",
            "none",
            "-qmp",
            f"unix:{self.folder}/qmp,server,nowait",
            *([] if self.watched else ["-no-reboot"]),
        ]
        command += ["-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.img"), "-append", " ".join(words)]
        self.begun_s = time.monotonic()
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def replug(self) -> None:
        """As it was started before."""
        self.start(*self._plugged)

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pull(self) -> None:
        """Pull the plug, if it is in."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def age_s(self) -> float:
        """Since the plug was put in."""
        return time.monotonic() - self.begun_s

    def messages(self, *topics: str, wait_s: float = 10, at_most: int = 200) -> dict[str, str]:
        """What its broker has retained of these topics, as mosquitto_sub says it; {} while nobody answers."""
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.mqtt), "-v", "--retained-only", "-W", str(int(wait_s))]
        command += ["-C", str(at_most)] + [word for topic in topics for word in ("-t", topic)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=wait_s + 30)
        except subprocess.TimeoutExpired:
            return {}
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    def price(self) -> str | None:
        return self.messages("grid/price", wait_s=5, at_most=1).get("grid/price")

    def record(self, owner: str, kind: str) -> dict[str, Any]:
        """A node's record in this guest's broker, {} if it is not there."""
        found = self.messages(f"grid/node/{owner}/{kind}", wait_s=5, at_most=1)
        loaded: dict[str, Any] = json.loads(next(iter(found.values()), "{}"))
        return loaded

    def written(self) -> int:
        """Bytes that the guest has written to its card since the plug was put in."""
        return sum(int(drive["stats"]["wr_bytes"]) for drive in self._asked("query-blockstats"))

    def pin(self, number: int) -> tuple[int, int]:
        """A pin of raspi3b as a probe on the chip sees it: its function (0 input, 1 output) and its level.

        Registers GPFSELn and GPLEV0: BCM2835 ARM Peripherals, 6.1; on a Pi 3 from 0x3F200000 on.
        """
        select, level = (self._register(0x3F200000 + offset) for offset in (number // 10 * 4, 0x34))
        return select >> number % 10 * 3 & 7, level >> number & 1

    def _register(self, address: int) -> int:
        said = self._asked("human-monitor-command", **{"command-line": f"xp /1wx {address:#x}"})
        return int(said.split()[-1], 16)

    def _asked(self, command: str, **arguments: object) -> Any:
        """What QEMU itself answers."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(self.folder / "qmp"))
            answers = line.makefile("rw")
            answers.readline()
            for name, more in (("qmp_capabilities", {}), (command, arguments)):
                answers.write(json.dumps({"execute": name, "arguments": more}) + "\n")
                answers.flush()
                while "return" not in (answer := json.loads(answers.readline())):
                    if "error" in answer:
                        raise RuntimeError(f"QEMU: {answer['error']}")
        return answer["return"]

    def ssh(self, key: Path, command: str, timeout: float = 240) -> str:
        """As the user with this key. Raises RuntimeError."""
        options = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=120",
            "BatchMode=yes",
        )
        words = [word for option in options for word in ("-o", option)]
        return run("ssh", "-i", key, "-p", str(self.ssh_port), *words, "root@127.0.0.1", command, timeout=timeout)

    def last_words(self, lines: int = 15) -> str:
        """The end of its console."""
        path = self.folder / "console.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


class Meter:
    """A pretend Modbus RTU meter behind a pseudo-terminal, for a guest's USB adapter."""

    def __init__(self, grid: Path, model: str, values: Sequence[str] = ()) -> None:
        words = [str(grid), "meter", "simulate", model, "--pty"] + [word for value in values for word in ("--set", value)]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.terminal = ""
        while not self.terminal:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(words)} ended with {self._process.wait()}")
            found = re.search(r"/dev/pts/\d+", line)
            self.terminal = found[0] if found else ""

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def needed(*programs: str) -> list[str]:
    """Which of these are missing."""
    return [program for program in programs if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
