"""How long tests wait: seconds that this machine had, and gave to what wanted to run."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

LEAST = 0.25  # part of the time that counts however starved a machine is: even then a wait ends before the limit of a test


class Turns(NamedTuple):
    """What was had of the processors up to a moment."""

    ticks: int  # of all processors, idle ones too (proc_stat(5))
    stolen: int  # of those: given to others by the hypervisor
    threads: dict[str, tuple[int, int]]  # by id: ns that it ran, and ns that it could have and waited for its turn


def turns() -> Turns:
    try:
        words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return Turns(sum(words), words[7], dict(_threads()))
    except OSError:
        return Turns(0, 0, {})


def _threads() -> list[tuple[str, tuple[int, int]]]:
    """Of every thread of this machine (Linux: Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat)."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                ran, waited, _ = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
                found.append((thread, (int(ran), int(waited))))
        except OSError:  # it has ended
            continue
    return found


def unstolen(before: Turns, after: Turns) -> float:
    """What part of the time between them the hypervisor did not give to other guests."""
    ticks = after.ticks - before.ticks
    return 1 - (after.stolen - before.stolen) / ticks if ticks > 0 else 1.0


def share(before: Turns, after: Turns) -> float:
    """What part of the time between them was had by those who wanted to run, LEAST at least."""
    ran = waited = 0
    for thread, (ran_ns, waited_ns) in after.threads.items():
        ran_before, waited_before = before.threads.get(thread, (0, 0))
        if ran_ns >= ran_before and waited_ns >= waited_before:  # else it is another of the same id
            ran, waited = ran + ran_ns - ran_before, waited + waited_ns - waited_before
    return max(LEAST, unstolen(before, after) * (ran / (ran + waited) if ran else 1.0))


def had(took_s: float, before: Turns, after: Turns, threads: Iterable[str]) -> float:
    """Of so many seconds those in which a process of these threads could go on, LEAST of them at least."""
    waited_ns = sum(after.threads[one][1] - before.threads.get(one, (0, 0))[1] for one in threads if one in after.threads)
    return max(LEAST * took_s, unstolen(before, after) * took_s - waited_ns / 1e9)


def wait_until(condition: Callable[[], Any], seconds: float, what: str | Callable[[], Any] = "", by_the_clock: bool = False) -> Any:
    """The first true value of the condition; fails with `what` (text, or called for it) when it does not come in time.

    In time: before so many seconds were had by those who wanted to run; `by_the_clock` where they are a bound.
    """
    began_s = time.monotonic()
    before: Turns | None = None  # they cost some ms, and most conditions hold at once
    while True:
        value = condition()
        if value:
            return value
        took_s = time.monotonic() - began_s
        if before is None and not by_the_clock:
            before = turns()
        if took_s > seconds and (before is None or took_s * share(before, turns()) > seconds):
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)


def spend(seconds: float) -> None:
    """Let this process go on for so long, a window to count in: longer by what was stolen and its threads waited for their turn."""
    began_s, before, left_s = time.monotonic(), turns(), seconds
    while left_s > 0:
        time.sleep(max(0.01, left_s))
        took_s = time.monotonic() - began_s
        left_s = seconds - had(took_s, before, turns(), os.listdir("/proc/self/task") if before.threads else ())


def within(seconds: float, condition: Callable[[], Any], what: str | Callable[[], Any] = "") -> float:
    """Seconds until the condition holds, by the clock; it must within so many."""
    began_s = time.monotonic()
    wait_until(condition, seconds, what, by_the_clock=True)
    return time.monotonic() - began_s
