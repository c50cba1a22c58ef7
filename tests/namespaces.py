"""Network namespaces: making them, being in one, and clearing away what a killed run left behind."""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from live import alive

TAG = "grid-"  # all names begin so, with the number of the process that made them
CLONE_NEWNET = 0x40000000  # man 2 setns


class Refused(Exception):
    """The kernel does not let us have namespaces, or what they need."""


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(("ip", *words), capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        raise Refused(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread's new sockets, threads and children are in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


def sweep() -> None:
    """What runs left behind that did not live to clear up: their processes end, their namespaces and disks go."""
    for name in re.findall(rf"^{TAG}\S+", ip("netns", "list"), re.M):
        if not alive(int(name.split("-")[1])):
            end(name)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, where, *_ = line.split()
        if re.fullmatch(rf"{TAG}\d+", device) and not alive(int(device.removeprefix(TAG))):
            subprocess.run(("umount", "-l", where), check=False)


def end(namespace: str) -> None:
    for pid in ip("netns", "pids", namespace, check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "del", namespace, check=False)
    Path(f"/etc/netns/{namespace}/hosts").unlink(missing_ok=True)
    with suppress(OSError):
        Path(f"/etc/netns/{namespace}").rmdir()
