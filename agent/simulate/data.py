"""Neighbourhoods: quarter-hour profiles of load and sun, batteries, the firm supply, and seeded noise between the quarter hours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from agent.dispatch import CLASSES, Mode
from drivers.curves import Household

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

TICK_S = 2  # the resolution of the physics, of the records and of the bound
SLOT_S = 900
TICKS = SLOT_S // TICK_S  # of a slot
SLOTS = 96  # of a day
SPLIT = (0.25, 0.40, 0.25, 0.10)  # of a household's load that is not a heat pump's
ETA = 0.95  # of a battery, each way (SimBench: etaStore)
START_SOC = 0.5
AIM_UNSERVED = 0.01  # of the demand: the firm supply is sized so that perfect foresight fails by this much
LOAD_NOISE, LOAD_NOISE_S = 0.2, 120.0  # of a node's load around its profile, and how long a deviation lasts
CLOUD_NOISE, CLOUD_NOISE_S = 0.15, 60.0  # of everybody's sun at once
CLEAR = 1.15  # a cloud's edge brightens by at most this much


@dataclass(frozen=True, slots=True)
class Scene:
    """A neighbourhood of n nodes over k slots. Watts stand at the slots' edges, hence k + 1 rows, with straight lines between."""

    name: str
    ids: tuple[str, ...]
    load_w: Floats  # [k + 1, n, 4] wanted, by class
    sun_w: Floats  # [k + 1, n]
    battery_w: Floats  # [n]
    battery_wh: Floats  # [n]
    firm_w: Ints  # [k] generator or import limit; its owner is node 0
    first_day: int  # of the year, 0 is 1 January

    @property
    def slots(self) -> int:
        return len(self.firm_w)


def number(*parts: object) -> int:
    """A number of 32 bits from these words, the same in every process."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")


def synthetic(nodes: int, days: int, start: int, seed: int, mode: Mode) -> Scene:
    """Made-up households: two in five have sun, one in four a battery, one in six a heat pump. `start` 0 … 365 gives the season."""
    rows = days * SLOTS + 1
    load, sun = np.zeros((rows, nodes, CLASSES)), np.zeros((rows, nodes))
    battery_w, battery_wh = np.zeros(nodes), np.zeros(nodes)
    for node in range(nodes):
        random = Random(f"house {seed} {node}")
        pv_w = random.randrange(3000, 9000, 100) if node % 5 in (1, 3) else 0
        home = Household(number(seed, node), random.randrange(1500, 4500, 100), pv_w)
        pump_w = random.randrange(800, 2500, 100) if node % 6 == 5 else 0
        late = random.uniform(-1, 1) * 3600  # neighbours do not rise all at once
        if node % 4 == 1:
            battery_w[node] = random.randrange(2000, 6000, 100)
            battery_wh[node] = battery_w[node] * random.choice((1, 2, 4))
        for row in range(rows):
            time_s = start * 86_400 + row * SLOT_S
            warm = _warmth(time_s // 86_400)
            now = home.at(float(time_s))
            drawn = home.at(max(0.0, time_s + late)).load_w * (1.25 - 0.4 * warm)
            load[row, node] = [drawn * share for share in SPLIT]
            load[row, node, 3] += pump_w * (1 - warm) * (0.7 + 0.3 * math.cos(math.tau * (time_s % 86_400) / 86_400))
            sun[row, node] = now.pv_w * (0.15 + 0.85 * warm)
    ids = tuple(f"node{node:03d}" for node in range(nodes))
    return sized("synthetic", ids, load, sun, battery_w, battery_wh, start, seed, mode)


def _warmth(day: int) -> float:
    """0 ten days before the year's end, 1 half a year later."""
    return 0.5 - 0.5 * math.cos(math.tau * (day + 10) / 365.25)


def sized(
    name: str, ids: tuple[str, ...], load: Floats, sun: Floats, battery_w: Floats, battery_wh: Floats,
    start: int, seed: int, mode: Mode,
) -> Scene:  # fmt: skip
    """The scene with as much firm supply as leaves AIM_UNSERVED to perfect foresight on quarter-hour means, trips included."""
    slots = len(load) - 1
    up = trips(slots, seed) if mode == "island" else np.ones(slots)
    wanted, made = load.sum(axis=(1, 2)), sun.sum(axis=1)
    need = (wanted[:-1] + wanted[1:]) / 2 - (made[:-1] + made[1:]) / 2
    low, high = 0, math.ceil(max(need.max(), 1.0))
    while high - low > 1:
        middle = (low + high) // 2
        if (
            pooled(need - middle * up, battery_w.sum(), battery_wh.sum(), SLOT_S)
            <= AIM_UNSERVED * wanted[:-1].sum() * SLOT_S / 3600
        ):
            high = middle
        else:
            low = middle
    return Scene(name, ids, load, sun, battery_w, battery_wh, np.round(high * up).astype(np.int64), start)


def trips(slots: int, seed: int) -> Floats:
    """What share of the firm supply runs in each slot: once a day one of its two machines trips on a slot's edge, for two slots."""
    up = np.ones(slots)
    for day in range(-(-slots // SLOTS)):
        at = day * SLOTS + Random(f"trip {seed} {day}").randrange(0, SLOTS - 2)
        up[at : at + 2] = 0.5
    return up


def pooled(need_w: Floats, power_w: float, energy_wh: float, step_s: float) -> float:
    """Unserved Wh if all batteries were one and the future known: with one store it is best to give at once what is missing."""
    hours, held, unserved = step_s / 3600, energy_wh * START_SOC, 0.0
    for need in need_w.tolist():
        if need > 0:
            given = min(need, power_w, held * ETA / hours)
            held -= given * hours / ETA
            unserved += (need - given) * hours
        else:
            held += min(-need, power_w, (energy_wh - held) / ETA / hours) * hours * ETA
    return unserved


def weather(scene: Scene, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Slot by slot the watts of each tick, (load [450, n, 4], sun [450, n]): each node's load is noisy, clouds are over all."""
    random = np.random.default_rng([seed, 0x6772_6964])
    nodes = len(scene.ids)
    keep, stir = math.exp(-TICK_S / LOAD_NOISE_S), LOAD_NOISE * math.sqrt(1 - math.exp(-2 * TICK_S / LOAD_NOISE_S))
    cloud_keep, cloud_stir = math.exp(-TICK_S / CLOUD_NOISE_S), CLOUD_NOISE * math.sqrt(1 - math.exp(-2 * TICK_S / CLOUD_NOISE_S))
    off, cloud = np.zeros(nodes), 0.0
    along = np.arange(TICKS)[:, None] / TICKS
    for slot in range(scene.slots):
        kicks, gusts = random.standard_normal((TICKS, nodes)), random.standard_normal(TICKS)
        offs, clouds = np.empty((TICKS, nodes)), np.empty((TICKS, 1))
        for tick in range(TICKS):
            off = off * keep + stir * kicks[tick]
            cloud = cloud * cloud_keep + cloud_stir * float(gusts[tick])
            offs[tick], clouds[tick] = off, cloud
        swing = np.exp(offs - LOAD_NOISE**2 / 2)
        load = scene.load_w[slot] * (1 - along[:, :, None]) + scene.load_w[slot + 1] * along[:, :, None]
        sun = scene.sun_w[slot] * (1 - along) + scene.sun_w[slot + 1] * along
        yield (
            np.rint(load * swing[:, :, None]).astype(np.int64),
            np.rint(sun * np.clip(1 + clouds, 0.0, CLEAR)).astype(np.int64),
        )
