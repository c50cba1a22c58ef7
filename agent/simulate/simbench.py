"""Neighbourhoods from the open data of SimBench 1.6.3 (profiles ODbL), read as CSV from the installed package."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent.dispatch import CLASSES, Mode
from agent.simulate.data import SLOTS, SPLIT, Scene, number, sized

SET = "networks/1-complete_data-mixed-all-{}-sw"  # 1 is tomorrow, 2 the future with most batteries
YEAR_SLOTS = 35_136  # 2016
SMALL, LARGE = "LV1.101", ("LV6.201", "LV1.101", "LV2.101", "LV3.101", "LV4.101", "LV5.201", "LV2.102", "LV6.202")
FLEXIBLE = ("HLS", "APLS", "Air_", "Soil_")  # charging points and heat pumps
SHIFT_SLOTS = 4  # only six household profiles exist: each load's is moved by up to an hour, or all would rise at once


class DataMissing(Exception):
    """The data cannot be had; its text says what to do."""


def folder(which: int = 2) -> Path:
    """Where the package keeps its tables. The package itself is not imported: it would load pandapower."""
    found = importlib.util.find_spec("simbench")
    if found is None or found.origin is None:
        raise DataMissing("SimBench is not installed. Its data come with: pip install simbench==1.6.3 (or use --data synthetic)")
    path = Path(found.origin).parent / SET.format(which)
    if not (path / "LoadProfile.csv").is_file():
        raise DataMissing(f"SimBench has no {path.name}/LoadProfile.csv. Its data come with: pip install simbench==1.6.3")
    return path


def simbench(nodes: int, days: int, start: int, seed: int, mode: Mode) -> Scene:
    """The first `nodes` buses with a load: of LV1.101 (13) if they suffice, else of LV6.201 (53) and the feeders after it."""
    path = folder()
    loads, suns, stores = (list(_rows(path / f"{table}.csv")) for table in ("Load", "RES", "Storage"))
    chosen = _buses(loads, nodes)
    place = {bus: k for k, bus in enumerate(chosen)}
    rows = days * SLOTS + 1
    load, sun = np.zeros((rows, nodes, CLASSES)), np.zeros((rows, nodes))
    battery_w, battery_wh = np.zeros(nodes), np.zeros(nodes)
    loads, suns, stores = ([row for row in table if row["node"] in place] for table in (loads, suns, stores))
    used = {row["profile"] + "_pload" for row in loads}
    made = {row["profile"] for row in suns}
    drawn_by = _profiles(path / "LoadProfile.csv", used)
    made_by = _profiles(path / "RESProfile.csv", made)
    at = start * SLOTS + np.arange(rows)
    for row in loads:
        late = number(seed, row["id"]) % (2 * SHIFT_SLOTS + 1) - SHIFT_SLOTS
        watts = drawn_by[row["profile"] + "_pload"][(at + late) % YEAR_SLOTS] * float(row["pLoad"]) * 1e6
        if row["profile"].startswith(FLEXIBLE):
            load[:, place[row["node"]], 3] += watts
        else:
            load[:, place[row["node"]]] += watts[:, None] * np.array(SPLIT)
    for row in suns:
        sun[:, place[row["node"]]] += made_by[row["profile"]][at % YEAR_SLOTS] * float(row["pRES"]) * 1e6
    for row in stores:
        battery_w[place[row["node"]]] += abs(float(row["pStor"])) * 1e6
        battery_wh[place[row["node"]]] += float(row["eStore"]) * 1e6
    ids = tuple(bus.replace(" Bus ", "-").replace(".", "-").lower() for bus in chosen)
    return sized("simbench", ids, load, sun, battery_w, battery_wh, start, seed, mode)


def _buses(loads: list[dict[str, str]], nodes: int) -> list[str]:
    by_net: dict[str, set[str]] = {}
    for row in loads:
        by_net.setdefault(row["subnet"].partition("_")[0], set()).add(row["node"])
    nets = (SMALL,) if len(by_net.get(SMALL, ())) >= nodes else LARGE
    found = [bus for net in nets for bus in sorted(by_net.get(net, ()))]
    if len(found) < nodes:
        raise DataMissing(f"the SimBench feeders used here have {len(found)} nodes. Ask for no more with --nodes")
    return found[:nodes]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            if row["subnet"].startswith("LV"):
                yield row


def _profiles(path: Path, names: set[str]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter=";")
        head = next(lines)
        columns = {name: head.index(name) for name in names if name in head}
        kept: dict[str, list[float]] = {name: [] for name in columns}
        for line in lines:
            for name, column in columns.items():
                kept[name].append(float(line[column]))
    lost = names - columns.keys()
    if lost:
        raise DataMissing(f"SimBench's {path.name} has no profile {min(lost)!r}. This needs: pip install simbench==1.6.3")
    return {name: np.array(values) for name, values in kept.items()}
