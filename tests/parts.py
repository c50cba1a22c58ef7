"""Slots, tariffs and energy records that the tests of accounts and settlement begin with."""

import json

from agent import wire
from agent.decode import decode
from agent.isle import Want

DAY = 20_000
K = DAY * 96
T = DAY * 86_400


def tariff(**keys):
    base = {
        "import_u": 30,
        "export_u": 8,
        "floor_u": 10,
        "cap_u": 50,
        "currency": "EUR",
        "slot_s": 900,
        "rule": "mmr",
        "version": 1,
    }
    return wire.Tariff(**base | keys)


def record(import_wh, export_wh=None, edges=0, node="a", **keys):
    export_wh = [wh and 0 for wh in import_wh] if export_wh is None else export_wh
    day = keys.get("day", DAY)
    keys = {
        "day": day,
        "slot_s": 900,
        "edges": edges,
        "import_wh": import_wh,
        "export_wh": export_wh,
        "zone": "z",
        "version": 1,
        **keys,
    }
    return decode(wire.place(wire.node_topic(node, wire.energy_kind(day))), json.dumps(keys).encode())


USES = {"b": (150, 0), "a": (50, 0), "pv": (0, 100)}
GEN = Want(0, 150, "generator", False)
