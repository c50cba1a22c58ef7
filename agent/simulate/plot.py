"""One picture of a run: frequency, net, shed load and an island's price, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.price import island
from agent.simulate.data import TICK_S, Floats

if TYPE_CHECKING:
    from agent.simulate.run import Result, Trace

POINTS = 1440  # across the picture; of the ticks in between the lowest frequency and the mean watts are drawn
WHOLE = 1_000_000  # of what could be made, and of the way from the floor to the cap


def save(result: Result, path: Path, title: str) -> None:
    """Write the picture. The file's ending says its kind; raises OSError or ValueError where it cannot be written."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(4, 1, figsize=(11, 10), sharex=True, layout="constrained")
    names = ("frequency, Hz", "net without firm supply, kW", "shed, kW", "price of the island, 0 floor … 1 cap")
    for pane, name in zip(panes, names, strict=True):
        pane.set_ylabel(name)
        pane.grid(alpha=0.3)
    for case, trace in result.traces.items():
        hours, lowest, shed = _lines(trace)
        panes[0].plot(hours, np.where(lowest < 1, np.nan, lowest), label=case, linewidth=0.8)
        panes[2].plot(hours, shed / 1000, label=case, linewidth=0.8)
    some = next(iter(result.traces.values()))
    hours = np.arange(len(_mean(some.net_w))) * _part(some) * TICK_S / 3600
    panes[1].plot(hours, _mean(some.net_w) / 1000, color="black", linewidth=0.8)
    last = result.traces[list(result.traces)[-1]]
    prices = [island(round(part * WHOLE), WHOLE, False, 0, WHOLE) / WHOLE for part in _mean(last.scarce).tolist()]
    panes[3].plot(hours, prices, color="black", linewidth=0.8)
    panes[0].legend()
    panes[3].set_xlabel("hours")
    figure.suptitle(title)
    try:
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)


def _part(trace: Trace) -> int:
    return max(1, len(trace.hz) // POINTS)


def _mean(values: list[float]) -> Floats:
    part = max(1, len(values) // POINTS)
    return np.asarray(np.array(values[: len(values) // part * part]).reshape(-1, part).mean(axis=1))


def _lines(trace: Trace) -> tuple[Floats, Floats, Floats]:
    part = _part(trace)
    whole = len(trace.hz) // part * part
    lowest = np.array(trace.hz[:whole]).reshape(-1, part).min(axis=1)
    return np.arange(len(lowest)) * part * TICK_S / 3600, np.asarray(lowest), _mean(trace.short_w)
