"""Two networks' authorities and members of them, in memory."""

import base64

from agent import seal
from agent.certs import NODE_DAYS
from agent.notary import Authority
from agent.seal import Member

NOW = 1_795_336_484.0  # 2026-11-22T08:34:44Z
OAK, ELM = Authority.new("oak", NOW), Authority.new("oak", NOW)  # two networks of one name


def b64(data):
    return base64.b64encode(data).decode()


def member(id_="a", authority=OAK, operator=False, days=NODE_DAYS, ca=None):
    key = seal.new_key()
    cert = seal.der_of(authority.issue(id_, seal.public_of(key), operator, days, NOW))
    return Member(ca or authority.ca, cert, key)
