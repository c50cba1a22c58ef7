"""Fuzzed: signatures, certificates, bundles, requests and keys, as strangers and old cards may bring them."""

import base64
from random import Random

from fuzz import Target
from mutate import ANY, JSON, TEXTS

from agent import bundle, notary, seal
from agent.bundle import Bundle, BundleError
from agent.notary import Authority
from agent.seal import Member, SealError

NOW = 1_795_336_484.0
TOPIC = "grid/node/b/state"
AUTHORITY, KEY = Authority.new("fuzz", NOW), seal.new_key()
CERT = seal.der_of(AUTHORITY.issue("b", seal.public_of(KEY), False, 700, NOW))
B = Member(AUTHORITY.ca, CERT, KEY)
SIGNED = [B.sign(TOPIC, b'{"net_w":5,"version":%d}' % number) for number in range(3)]
BUNDLE = Bundle("fuzz", "b", ("192.0.2.7:8883",), AUTHORITY.ca, CERT, KEY)


def _verify(data: bytes, dice: Random) -> None:
    """Nothing but what was signed is taken for it."""
    assert not seal.verify(B.certified.key, TOPIC, data) or data in SIGNED


def _certified(data: bytes, dice: Random) -> None:
    """As text, or as DER that is made text."""
    text = base64.b64encode(data).decode() if dice.random() < 0.7 else data.decode("latin-1")
    assert seal.certified(text, AUTHORITY.ca) == B.certified


def _root(data: bytes, dice: Random) -> None:
    seal.root_of(data)


def _pem(data: bytes, dice: Random) -> None:
    seal.ders_of(data)


def _key(data: bytes, dice: Random) -> None:
    seal.key_of(data)


def _request(data: bytes, dice: Random) -> None:
    notary.requested(data)


def _bundle(data: bytes, dice: Random) -> None:
    bundle.read(data)


TRUST = (
    Target("signature", 30, _verify, SIGNED, JSON),
    Target("certificate", 10, _certified, [CERT], ANY, (SealError,)),
    Target("authority", 5, _root, [AUTHORITY.ca], ANY, (SealError,)),
    Target("certificate file", 5, _pem, [seal.pem_of(CERT), seal.pem_of(AUTHORITY.ca)], TEXTS, (SealError,)),
    Target("key file", 5, _key, [seal.key_pem(KEY)], TEXTS, (SealError,)),
    Target("request for a bundle", 5, _request, [notary.request("b", KEY)], TEXTS, (SealError,)),
    Target("bundle", 10, _bundle, [bundle.write(BUNDLE).encode(), bundle.compact(BUNDLE).encode()], TEXTS, (BundleError,)),
)
