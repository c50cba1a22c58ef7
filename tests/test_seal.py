"""Keys, certificates and signatures: RFC 8032's own examples, every flipped bit, and the TLS of a real Mosquitto."""

import base64
import os
import socket
import ssl
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from live import ROOT, free_ports, wait_until

from agent import broker, notary, seal
from agent.certs import CA_DAYS, NODE_DAYS, RENEW_S, WRITTEN_UNIX, Certified, dated, due, expired
from agent.notary import Authority
from agent.seal import Member, SealError
from agent.wire import DAY_S

NOW = 1_795_336_484.0  # 2026-11-22T08:34:44Z
TOPIC = "grid/node/a/state"
BODY = b'{"net_w":740,"quality":"good","version":7}'
OAK, ELM = Authority.new("oak", NOW), Authority.new("oak", NOW)  # two networks of one name


def b64(data):
    return base64.b64encode(data).decode()


def member(id_="a", authority=OAK, operator=False, days=NODE_DAYS, ca=None):
    key = seal.new_key()
    cert = seal.der_of(authority.issue(id_, seal.public_of(key), operator, days, NOW))
    return Member(ca or authority.ca, cert, key)


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


def test_a_key_goes_through_pem_and_other_keys_are_refused(tmp_path):
    key = seal.new_key()
    assert seal.key_of(seal.key_pem(key)) == key
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", str(tmp_path / "k")], check=True, capture_output=True)
    with pytest.raises(SealError, match="not Ed25519"):
        seal.key_of((tmp_path / "k").read_bytes())


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


def test_the_library_is_loaded_by_those_who_use_it_only():
    code = "import sys, agent.seal, agent.authority, agent.root; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# a real Mosquitto, and OpenSSL's own opinion

LISTENER = """\
{user}listener {port} 127.0.0.1
allow_anonymous false
cafile {folder}/ca.pem
certfile {folder}/node.pem
keyfile {folder}/node.key
require_certificate true
use_identity_as_username true
tls_version tlsv1.2
log_type all
"""
BRIDGE = """\
{user}listener {port} 127.0.0.1
allow_anonymous true
connection link
address 127.0.0.1:{to}
bridge_cafile {folder}/ca.pem
bridge_certfile {folder}/node.pem
bridge_keyfile {folder}/node.key
bridge_insecure true
bridge_protocol_version mqttv50
restart_timeout 1
topic # out 1
log_type all
"""


def lay(folder, ca, cert, key):
    folder.mkdir()
    for name, data in (("ca.pem", seal.pem_of(ca)), ("node.pem", cert), ("node.key", seal.key_pem(key))):
        (folder / name).write_bytes(data)
    return folder


def admit(folder, authority, id_, days=NODE_DAYS, ca=None):
    key = seal.new_key()
    return lay(folder, ca or authority.ca, authority.issue(id_, seal.public_of(key), False, days, NOW), key)


@pytest.fixture
def brokers(tmp_path):
    running = []

    def start(name, text):
        user = "user root\n" if os.geteuid() == 0 else ""
        config, log = tmp_path / f"{name}.conf", tmp_path / f"{name}.log"
        config.write_text(text.format(user=user))
        with log.open("w") as file:
            running.append(subprocess.Popen([broker.program(), "-c", str(config)], stderr=file, stdout=file))
        return log

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_real_brokers_link_with_it_and_take_no_stranger(brokers, tmp_path):
    x, y = admit(tmp_path / "x", OAK, "x"), admit(tmp_path / "y", OAK, "y")
    strangers = {
        "foreign": admit(tmp_path / "foreign", ELM, "y", ca=OAK.ca),
        "expired": admit(tmp_path / "expired", OAK, "y", days=-1),
    }
    ports = free_ports(2 + len(strangers))
    log = brokers("x-broker", "{user}" + LISTENER.format(user="", port=ports[0], folder=x))
    wait_until(lambda: "running" in log.read_text(), 5)
    brokers("y-broker", "{user}" + BRIDGE.format(user="", port=ports[1], folder=y, to=ports[0]))
    wait_until(lambda: "u'y'" in log.read_text(), 5, log.read_text)  # the certificate's name is who it is
    for port, (name, folder) in zip(ports[2:], strangers.items(), strict=True):
        before = log.read_text().count("certificate verify failed")
        brokers(f"{name}-broker", "{user}" + BRIDGE.format(user="", port=port, folder=folder, to=ports[0]))
        wait_until(lambda n=before: log.read_text().count("certificate verify failed") > n, 5, log.read_text)
    assert log.read_text().count("New client connected") == 1


def test_python_checks_the_same_chain_and_tls_1_3(brokers, tmp_path):
    x, y, foreign = admit(tmp_path / "x", OAK, "x"), admit(tmp_path / "y", OAK, "y"), admit(tmp_path / "f", ELM, "y")
    (port,) = free_ports(1)
    log = brokers("broker", "{user}" + LISTENER.format(user="", port=port, folder=x).replace("tls_version tlsv1.2\n", ""))
    wait_until(lambda: "running" in log.read_text(), 5)

    def shake(folder, name):
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(folder / "node.pem", folder / "node.key")
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
            return tls.version(), tls.getpeercert()["subject"]

    assert shake(y, "x") == ("TLSv1.3", ((("commonName", "x"),),))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(y, "y")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(foreign, "x")


def test_openssl_takes_the_chain_by_its_strict_rules_at_every_date(tmp_path):
    folder = admit(tmp_path / "x", OAK, "x")
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]

    def ok(*options):
        return subprocess.run([*verify, *options, "node.pem"], cwd=folder, capture_output=True, check=False).returncode == 0

    assert ok("-purpose", "sslclient", "-attime", "0")  # 1970
    assert ok("-attime", str(int(NOW) + 730 * 86_400 - 1))
    assert not ok("-attime", str(int(NOW) + 730 * 86_400 + 1))
