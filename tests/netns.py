"""Real nodes, each in a network namespace of its own, on one pretend Ethernet: cables are pulled, halves split, Pis lose power.

Nothing touches the host's network: every interface lives in a namespace. All names carry this process's number, and what a killed
run left behind is cleared away by the next one.
"""

import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from live import agreed
from namespaces import TAG, Refused, end, ip, sweep
from patience import wait_until
from pi import HALVES, PORT, Pi

Pairs = list[tuple[str, str]]
CUBE: Pairs = [(a, b) for a, b in ("ab", "bc", "cd", "da", "ef", "fg", "gh", "he", "ae", "bf", "cg", "dh")]  # 8 nodes, 12 links


class Lan:
    """The pretend Ethernet and all nodes on it. `with Lan(folder) as lan:` ends what it started, also when the test fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"{TAG}{os.getpid()}"
        self.switch = f"{self.tag}-switch"
        self.pis: dict[str, Pi] = {}
        self.disks: list[Path] = []
        self.lock = threading.Lock()  # of what runs
        self._cables = 0

    def __enter__(self) -> "Lan":
        """Raises Refused."""
        sweep()
        ip("netns", "add", self.switch)
        try:
            for half in HALVES:
                ip("-n", self.switch, "link", "add", half, "type", "bridge")
                ip("-n", self.switch, "link", "set", half, "up")
        except Refused:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pi in self.pis.values():
            pi.end()
        end(self.switch)
        for disk in self.disks:
            subprocess.run(("umount", "-l", str(disk)), check=False)

    def new_cable(self) -> str:
        self._cables += 1
        return f"port{self._cables}"

    def pi(self, name: str, net_w: int = -500, id_: str | None = None) -> Pi:
        """A node, still without power."""
        pi = self.pis[name] = Pi(self, 10 + len(self.pis), name, id_ or name, net_w)
        return pi

    def join(self, pairs: Pairs) -> None:
        """The first of each pair joins the second."""
        for joiner, other in pairs:
            address = f"{self.pis[other].address}:{PORT}"
            answer: dict[str, Any] = {}

            def joined(joiner: str = joiner, address: str = address, answer: dict[str, Any] = answer) -> bool:
                answer.clear()
                answer.update(self.pis[joiner].ask("join", address))
                return "joined" in answer

            wait_until(joined, 30, lambda answer=answer, pair=(joiner, other): f"{pair}: {answer}")

    def network(self, pairs: Pairs, **net_w: int) -> list[Pi]:
        """Nodes of these names and watts, joined and in agreement; those that are on the Lan already take part."""
        for name, watts in net_w.items():
            self.pi(name, watts)
        pis = list(self.pis.values())
        for pi in pis:
            if not pi.cable:
                pi.power_on()
        for pi in pis:
            wait_until(pi.status, 30, pi.log)
        self.join(pairs)
        self.agree(pis, seconds=40.0)
        return pis

    def split(self, *names: str) -> None:
        """These are cut off from all others, but not from each other."""
        for name in names:
            ip("-n", self.switch, "link", "set", self.pis[name].cable, "master", HALVES[1])

    def heal(self) -> None:
        for pi in self.pis.values():
            ip("-n", self.switch, "link", "set", pi.cable, "master", HALVES[0])

    def agree(self, pis: Iterable[Pi], heard: int | None = None, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until these show one digest, all that they know (or so many) are heard, and the net is the sum of their meters."""
        pis = list(pis)
        net_w = sum(pi.net_w for pi in pis)
        summary: dict[str, Any] = wait_until(
            lambda: agreed(pis, net_w, heard),  # type: ignore[arg-type]  # of a node it asks the status and no more
            seconds,
            lambda: f"agreement on {net_w} W, {heard} heard: {[(pi.name, pi.status().get('summary')) for pi in pis]}",
        )
        return summary

    def lost(self, pis: Iterable[Pi]) -> int:
        """Updates that did not arrive: what any of these nodes shows of any other, against the other's meter."""
        pis = list(pis)

        def missing() -> int:
            looks = [pi.status()["nodes"] for pi in pis]
            return sum(nodes.get(pi.id, {}).get("net_w") != pi.net_w for nodes in looks for pi in pis)

        with suppress(AssertionError):
            wait_until(lambda: missing() == 0, 10)  # a meter may be silent for a moment; lost is what never comes
        return missing()


@contextmanager
def a_lan(folder: Path) -> Iterator[Lan]:
    """A pretend Ethernet; the test is skipped, with the kernel's reason, where there can be none."""
    lan = Lan(folder)
    try:
        lan.__enter__()
    except (Refused, FileNotFoundError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    with ExitStack() as stack:
        stack.push(lan.__exit__)
        yield lan
