"""Made-up neighbourhoods for the simulation: one whose profiles do not move, and an evening of the synthetic set."""

from dataclasses import replace

import numpy as np

from agent.simulate.data import Scene, synthetic

KEYS = {"unserved_kwh", "ratio", "blackouts", "critical_kwh", "min_hz", "switches", "saidi_min", "curtailed_kwh"}


def house(loads, battery_w=(), battery_wh=(), firm=(1000,), sun=None):
    """A scene whose profiles do not move: `loads` by node and class."""
    rows, nodes = len(firm) + 1, len(loads)
    power = np.array([*battery_w, *[0] * (nodes - len(battery_w))], dtype=float)
    energy = np.array([*battery_wh, *[0] * (nodes - len(battery_wh))], dtype=float)
    made = np.zeros((rows, nodes)) if sun is None else np.tile(np.array(sun, dtype=float), (rows, 1))
    load = np.tile(np.array(loads, dtype=float), (rows, 1, 1))
    return Scene("hand", tuple(f"n{k}" for k in range(nodes)), load, made, power, energy, np.array(firm), 0)


def watts(scene):
    return scene.load_w[0].astype(np.int64), scene.sun_w[0].astype(np.int64)


def short(nodes=4, slots=2, mode="island", seed=1, begin=76):
    """An hour or so of an evening of the synthetic set."""
    scene = synthetic(nodes, 1, 15, seed, mode)
    cut = slice(begin, begin + slots)
    edges = slice(begin, begin + slots + 1)
    return replace(scene, firm_w=scene.firm_w[cut] * 8 // 10, load_w=scene.load_w[edges], sun_w=scene.sun_w[edges])
