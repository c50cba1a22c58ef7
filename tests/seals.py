"""A pretend authority and its seals: as strict as the real ones, and of a few microseconds."""

import json
from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Any

from agent.certs import Certified
from agent.trust import Trust

FAR_UNIX = 2_000_000_000


def _mac(key: bytes, text: bytes) -> str:
    return blake2b(text, key=key, digest_size=16).hexdigest()


class Seal:
    """The key is public and private in one: nobody in a test is to look."""

    def __init__(self, realm: "Realm", id_: str, operator: bool, key: bytes, to_unix: int) -> None:
        self.network, self._realm, self.key = realm.name, realm, key
        body = json.dumps([id_, key.hex(), operator, to_unix]).encode()
        self.cert = b64encode(body + _mac(realm.key, body).encode()).decode()

    def sign(self, topic: str, body: bytes) -> bytes:
        start = body[:-1]
        return start + b',"sig":"' + _mac(self.key, topic.encode() + b"\0" + start).encode() + b'"}'

    def verify(self, key: bytes, topic: str, payload: bytes) -> bool:
        start, _, rest = payload.rpartition(b',"sig":"')
        return rest == _mac(key, topic.encode() + b"\0" + start).encode() + b'"}'

    def certified(self, cert: str) -> Certified | None:
        try:
            raw = b64decode(cert, validate=True)
            id_, key, operator, to_unix = json.loads(raw[:-32])
        except ValueError:
            return None
        if _mac(self._realm.key, raw[:-32]).encode() != raw[-32:]:
            return None
        return Certified(id_, bytes.fromhex(key), 1, 0, to_unix, operator)


class Realm:
    """One closed network."""

    def __init__(self, name: str = "test", *operators: str) -> None:
        self.name, self.key = name, name.encode()
        self.operators = operators
        self.seals: dict[str, Seal] = {}

    def seal(self, id_: str, operator: bool | None = None, run: int = 1, to_unix: int = FAR_UNIX) -> Seal:
        """`run`: another one has another key."""
        key = blake2b(f"{self.name} {id_} {run}".encode(), digest_size=32).digest()
        return Seal(self, id_, id_ in self.operators if operator is None else operator, key, to_unix)

    def trust(self, id_: str) -> Trust:
        return Trust(self.seals.setdefault(id_, self.seal(id_)), f"token-{id_}")


def signed(seal: Seal, topic: str, payload: bytes, with_cert: bool | None = None) -> bytes:
    """A record as its maker's node makes it."""
    canonical = topic.split("/", 3)[3] if topic.startswith("$grid/in/") else None
    if canonical is not None:
        topic = f"grid/{canonical}" if canonical.startswith("network/") else f"grid/node/{canonical}"
    keys: dict[str, Any] = json.loads(payload)
    if with_cert or (with_cert is None and (topic.endswith("/info") or topic.startswith("grid/network/"))):
        keys["cert"] = seal.cert
    return seal.sign(topic, json.dumps(keys, separators=(",", ":")).encode())
