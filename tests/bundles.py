"""A network of one node, oak, on disk; bundles of it, and nodes that take them."""

import base64

from agent import bundle
from agent.authority import admit, create, install
from agent.notary import Authority

NOW = 1_795_336_484.0  # 2026-11-22T08:34:44Z
JOIN = ("192.0.2.7:8883",)


def first_node(folder):
    """A network whose first node is oak: its trust directory."""
    trust = folder / "oak" / "trust"
    create(trust, "Oak Street", "oak", None, NOW)
    return trust


def bundle_for(trust, id_="barn", **more):
    made = admit(
        trust, Authority.load(trust, None), id_, more.pop("join", JOIN), more.pop("operator", False), more.pop("key", None), NOW
    )
    assert not more
    return bundle.write(made).encode()


def take(tmp_path, data, id_="barn", unix_s=NOW, good=True, place="barn"):
    return install(tmp_path / place / "trust", data, id_, unix_s, good)


def shows(text, data):
    """Is any part of the bundle's key in this text, as it is spelled anywhere?"""
    key = bundle.read(data).key
    spellings = (base64.b64encode(key).decode(), key.hex(), repr(key), base64.urlsafe_b64encode(key).decode(), str(list(key)))
    return any(spelling[at : at + 12] in text for spelling in spellings for at in range(0, len(spelling) - 12, 4))
