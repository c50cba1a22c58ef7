"""Keys, certificates and signatures: RFC 8032's own examples, and every flipped bit."""

import base64
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from live import ROOT
from members import ELM, NOW, OAK, b64, member

from agent import notary, seal
from agent.certs import CA_DAYS, RENEW_S, WRITTEN_UNIX, Certified, dated, due, expired
from agent.notary import Authority
from agent.seal import Member, SealError
from agent.wire import DAY_S

TOPIC = "grid/node/a/state"
BODY = b'{"net_w":740,"quality":"good","version":7}'


A = member()
SIGNED = A.sign(TOPIC, BODY)

# RFC 8032, 7.1: private key, public key, message, signature
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("private_key", "public_key", "message", "signature"), RFC8032)
def test_the_examples_of_rfc_8032(private_key, public_key, message, signature):
    private_key, public_key, message = map(bytes.fromhex, (private_key, public_key, message))
    assert seal.public_of(private_key) == public_key
    assert seal.private_key(private_key).sign(message).hex() == signature
    seal.public_key(public_key).verify(bytes.fromhex(signature), message)


def test_a_signature_is_over_the_topic_a_zero_and_all_before_it():
    # by hand: the same key over the same bytes, put together here
    start = BODY[:-1]
    assert start + b',"sig":"' + base64.urlsafe_b64encode(A._key.sign(b"grid/node/a/state\x00" + start))[:86] + b'"}' == SIGNED
    assert seal.verify(A.certified.key, TOPIC, SIGNED)
    for topic in ("grid/node/a/stat", "grid/node/a/state/", "grid/node/b/state", "grid/node/a/info", "", "grid/node/a/state\0"):
        assert not seal.verify(A.certified.key, topic, SIGNED)
    assert not seal.verify(member().certified.key, TOPIC, SIGNED)


def test_topic_and_payload_cannot_be_cut_in_another_place():
    moved = A.sign("grid/node/a", b'{"x":1}')
    assert not seal.verify(A.certified.key, 'grid/node/a\0{"x":1', b"" + moved[6:])


@given(st.integers(0, len(SIGNED) * 8 - 1))
def test_no_bit_of_a_signed_payload_can_be_flipped(bit):
    flipped = bytearray(SIGNED)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not seal.verify(A.certified.key, TOPIC, bytes(flipped))


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=20))
@example(b"", b"", "")
@example(SIGNED[:-96], b"", TOPIC)
def test_nothing_that_was_not_signed_passes_and_nothing_raises(start, rest, topic):
    assert not seal.verify(A.certified.key, topic, start)
    assert not seal.verify(A.certified.key, topic, start + b',"sig":"' + rest + b'"}')
    assert not seal.verify(start, topic, SIGNED)


def test_a_signature_has_one_spelling():
    # 64 bytes are 512 bits, 86 characters hold 516: the last four are to be 0
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(SIGNED[-3])
    assert last % 16 == 0
    for other in range(last + 1, last + 16):
        assert not seal.verify(A.certified.key, TOPIC, SIGNED[:-3] + letters[other : other + 1] + SIGNED[-2:])
    for text in (SIGNED[:-2] + b'=="}', SIGNED + b"\n", SIGNED[:-1] + b" }", SIGNED.replace(b"-", b"+").replace(b"_", b"/") + b" "):
        assert not seal.verify(A.certified.key, TOPIC, text)
    # the same point with S + L (RFC 8032, 5.1.7: S is below the group's order L)
    order = 2**252 + 27742317777372353535851937790883648493
    signature = base64.urlsafe_b64decode(SIGNED[-88:-2] + b"==")
    larger = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not seal.verify(A.certified.key, TOPIC, SIGNED[:-88] + base64.urlsafe_b64encode(larger)[:86] + b'"}')


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"", bytes(31), bytes(33)])
def test_keys_that_are_none_or_weak(key):
    assert not seal.verify(key, TOPIC, SIGNED)


# certificates


def test_what_a_certificate_says():
    one = member("barn", operator=True)
    assert one.certified == Certified("barn", one.certified.key, one.certified.serial, 0, int(NOW) + 730 * 86_400, True)
    assert seal.certified(one.cert, OAK.ca) == one.certified
    assert not A.certified.operator
    assert (one.id, one.network, one.to_unix) == ("barn", "oak", one.certified.to_unix)
    assert one.certified.serial != A.certified.serial
    root = seal.root_of(OAK.ca)
    assert (root.network, root.to_unix) == ("oak", int(NOW) + 30 * 365 * 86_400)


def test_another_authority_of_the_same_name_a_damaged_one_and_the_authority_itself():
    with pytest.raises(SealError, match="not from this network's authority"):
        seal.certified(A.cert, ELM.ca)
    with pytest.raises(SealError, match="not from this network's authority"):
        seal.certified(b64(A.ca), base64.b64decode(A.cert))  # a member is no authority
    with pytest.raises(SealError, match="authority's own"):
        seal.certified(b64(OAK.ca), OAK.ca)
    for text, why in (
        ("!", "not base64"),
        ("ä", "not base64"),
        ("", "damaged"),
        ("AAAA", "damaged"),
        (b64(bytes(5000)), "too long"),
    ):
        with pytest.raises(SealError, match=why):
            seal.certified(text, OAK.ca)
    with pytest.raises(SealError):
        seal.root_of(base64.b64decode(A.cert))
    assert b"BEGIN CERT" in seal.pem_of(OAK.ca)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a flipped sign
@given(st.integers(0, len(base64.b64decode(A.cert)) * 8 - 1))
@example((len(base64.b64decode(A.cert)) - 65) * 8)  # how many bits of the signature's last byte do not count
@example((len(base64.b64decode(A.cert)) - 65) * 8 + 1)
def test_no_bit_of_a_certificate_can_be_flipped(bit):
    flipped = bytearray(base64.b64decode(A.cert))
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        seal.certified(b64(bytes(flipped)), OAK.ca)


@given(st.binary(max_size=400))
def test_no_bytes_of_strangers_raise_anything_else(data):
    with pytest.raises(SealError):
        seal.certified(b64(data), OAK.ca)
    for what in (seal.der_of, seal.key_of, notary.requested, seal.root_of):
        with pytest.raises(SealError):
            what(data)
    with pytest.raises(SealError):
        notary.unlock(data, "a passphrase")


def forged(**changes):
    """A certificate that the true authority's key signed, but not of our form."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    names = changes.get("names", ["a"])
    roles = changes.get("roles", [])
    oids = [(x509.NameOID.COMMON_NAME, names), (x509.NameOID.ORGANIZATIONAL_UNIT_NAME, roles)]
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, texts in oids for text in texts])
    builder = notary._builder(int(NOW)).subject_name(subject).issuer_name(seal.parse(OAK.ca).subject)
    builder = builder.public_key(changes.get("key") or seal.public_key(A.certified.key))
    if (ca := changes.get("ca", False)) is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if alternative := changes.get("alternative", ["a"]):
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in alternative]), critical=False)
    return builder.sign(OAK._key, None).public_bytes(Encoding.DER)


def test_what_the_authority_signed_must_be_of_our_form_too():
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    assert seal.certified(b64(forged()), OAK.ca).id == "a"
    wrong = [
        *({"names": names} for names in ([], ["a", "b"], ["A"], ["agent"], ["a/b"], ["a" * 33])),
        *({"roles": roles} for roles in (["admin"], ["operator", "operator"])),
        *({"ca": ca} for ca in (True, None)),
        *({"alternative": names} for names in ([], ["b"], ["a", "b"])),
        {"key": X25519PrivateKey.generate().public_key()},
    ]
    for changes in wrong:
        with pytest.raises(SealError):
            seal.certified(b64(forged(**changes)), OAK.ca)
    with pytest.raises(SealError, match="not an authority's"):
        seal.root_of(self_signed())


def self_signed():
    """A certificate signed by itself that may sign no other."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    key = seal.private_key(seal.new_key())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    builder = notary._builder(int(NOW)).subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def test_a_member_is_a_certificate_its_key_and_their_authority():
    other = seal.new_key()
    for ca, cert, key, why in (
        (OAK.ca, base64.b64decode(A.cert), other, "not that of the certificate"),
        (ELM.ca, base64.b64decode(A.cert), other, "not from this network"),
        (OAK.ca, base64.b64decode(A.cert), b"short", "32 bytes"),
    ):
        with pytest.raises(SealError, match=why):
            Member(ca, cert, key)
    with pytest.raises(SealError, match="not that of its certificate"):
        Authority(OAK.ca, other)


# dates: by the clock of the caller


def test_when_a_certificate_is_renewed_and_when_it_has_ended():
    # 730 days of life, a third is 243 days and 8 hours
    assert RENEW_S == 243 * 86_400 + 8 * 3600
    end = int(NOW) + 730 * DAY_S
    assert not due(end, NOW)
    assert not due(end, end - RENEW_S)
    assert due(end, end - RENEW_S + 1)
    assert due(end, end + 1)
    assert not expired(end, end)
    assert expired(end, end + 1)
    assert not expired(end, 0.0)  # a clock that is behind
    assert (dated(0.0), dated(NOW)) == (WRITTEN_UNIX, NOW)
    assert Authority.new("x", 0.0).root.to_unix == WRITTEN_UNIX + CA_DAYS * DAY_S


# private keys


def test_a_key_goes_through_pem_and_other_keys_are_refused(tmp_path):
    key = seal.new_key()
    assert seal.key_of(seal.key_pem(key)) == key
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", str(tmp_path / "k")], check=True, capture_output=True)
    with pytest.raises(SealError, match="not Ed25519"):
        seal.key_of((tmp_path / "k").read_bytes())


def test_the_library_is_loaded_by_those_who_use_it_only():
    code = "import sys, agent.seal, agent.authority, agent.root; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
