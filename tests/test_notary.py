"""The authority's key at rest, what it signs, and what it is asked to sign."""

import base64

import pytest
from members import NOW, OAK, member

from agent import notary, seal
from agent.notary import Authority
from agent.seal import Member, SealError

A = member()


def test_an_authority_is_written_down_and_found_again(tmp_path):
    made = Authority.create(tmp_path / "trust", "oak", None, NOW)
    assert Authority.load(tmp_path / "trust", None).root == made.root
    with pytest.raises(SealError, match=r"node\.pem: No such file"):
        Member.load(tmp_path / "trust")
    assert seal.certified_to(base64.b64decode(A.cert), OAK.ca) == A.to_unix


def test_issuing_refuses_what_is_no_id():
    for id_ in ("", "A", "network", "agent", "a b", "a/b", "-a", "a" * 33):
        with pytest.raises(SealError, match="no node's id"):
            OAK.issue(id_, A.certified.key, False, 1, NOW)


def test_a_passphrase():
    key = seal.new_key()
    text = notary.lock(key, "correct horse")
    assert notary.locked(text)
    assert not notary.locked(seal.key_pem(key))
    assert notary.unlock(text, "correct horse") == key
    assert text != notary.lock(key, "correct horse")  # another salt each time
    assert key.hex().encode() not in text
    for passphrase in ("correct horsf", "", "correct horse "):
        with pytest.raises(SealError, match="wrong passphrase"):
            notary.unlock(text, passphrase)


@pytest.mark.parametrize("at", [0, 20, 30, 60, 62, 64, 90, 150, -10, -2])
def test_a_key_file_that_rotted(at):
    text = bytearray(notary.lock(bytes(32), "correct horse"))
    text[at] ^= 1
    with pytest.raises(SealError, match="damaged"):
        notary.unlock(bytes(text), "correct horse")


def test_a_key_file_cannot_ask_for_all_our_memory():
    text = notary.lock(bytes(32), "correct horse")
    for size in (b"40", b"13", b"-1", b"x", b"999999999999999999999"):
        with pytest.raises(SealError, match="damaged"):
            notary.unlock(text.replace(b" 16 ", b" " + size + b" "), "correct horse")


def test_a_request_holds_its_makers_key_and_is_signed_by_it():
    key = seal.new_key()
    pem = notary.request("barn", key)
    assert notary.requested(pem) == ("barn", seal.public_of(key))
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    for bit in range(len(der) * 8):
        der[bit // 8] ^= 1 << bit % 8
        text = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.b64encode(der) + b"\n-----END CERTIFICATE REQUEST-----\n"
        try:
            found = notary.requested(text)
        except SealError:
            pass
        else:  # how many bits of the signature's last byte do not count: nothing is changed by it
            assert (bit // 8, found) == (80, ("barn", seal.public_of(key)))
        der[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError, match="not a node's"):
        notary.requested(notary.request("Barn", key))
