"""A node of a closed network at a desk, and how others of its network, or of none, speak to it."""

import json

from desk import Desk, info, state
from seals import Realm, Seal, signed

REALM, OTHERS = Realm("test", "op"), Realm("others")
OP, B, C = REALM.seal("op"), REALM.seal("b"), REALM.seal("c")
TARIFF = {"import_u": 400_000, "export_u": 50_000, "floor_u": 0, "cap_u": 10**6, "currency": "EUR", "slot_s": 900, "rule": "mmr"}


def a_desk(id_: str = "me", **changes) -> Desk:
    return Desk(id_, trust=REALM.trust(id_), **changes)


def meet(desk: Desk, id_: str = "b", produced_w: int = 500, seal: Seal | None = None, by: str = "b", version: int = 1) -> None:
    """Heard by way of a sibling until it counts."""
    seal = seal or REALM.seal(id_)
    tell(desk, seal, f"$grid/in/{by}/{id_}/info", info(version))
    for growth in (1, 2):
        tell(desk, seal, f"$grid/in/{by}/{id_}/state", state(version + growth, produced_w))
        desk.now += 0.75


def tell(desk: Desk, seal: Seal, topic: str, payload: bytes, **how):
    return desk.hear(topic, signed(seal, topic, payload, **how))


def network(desk: Desk, seal: Seal, kind: str, by: str = "op", version: int = 1, **keys):
    return tell(desk, seal, f"$grid/in/b/network/{kind}", json.dumps({"by": by, **keys, "version": version}).encode())


def reasons(desk: Desk) -> dict[str, int]:
    return dict(desk.node.show.refusals.reasons)
