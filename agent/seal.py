"""Keys, certificates and signatures as every node of a closed network needs them; the library's home, with notary.py.

Ed25519 throughout (RFC 8032), in X.509 certificates (RFC 5280, RFC 8410), so that one key serves a node's TLS and its records.
The library is loaded with the first call: an open node does not pay its 8 MB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import private, wire
from agent.certs import Certified

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CA, CERT, KEY, AUTHORITY_KEY = "ca.pem", "node.pem", "node.key", "authority/ca.key"  # in a node's trust directory
SIG, END, SIG_CHARS = b',"sig":"', b'"}', 86  # 64 bytes in base64url without padding
OPERATOR = "operator"
MAX_CERT = 4096  # bytes; ours have about 400


class SealError(Exception):
    """A key, certificate or bundle that cannot be used; the text says why and quotes nothing secret."""


# records


def verify(key: bytes, topic: str, payload: bytes) -> bool:
    """Did the holder of this key make these bytes for this topic?

    Signed is `topic || 0x00 || payload up to ,"sig":`, so that a record can be moved to no other place. The signature is
    the last key, and has one spelling only: a relay that could write it in another way would make a record of the same
    version and another hash. (S below the group's order is checked by the library: RFC 8032, 5.1.7.)
    """
    start = len(payload) - len(SIG) - SIG_CHARS - len(END)
    if start < 2 or payload[start : start + len(SIG)] != SIG or not payload.endswith(END) or len(key) != 32:
        return False
    text = payload[start + len(SIG) : -len(END)]
    try:
        signature = base64.urlsafe_b64decode(text + b"==")
    except binascii.Error:
        return False
    if base64.urlsafe_b64encode(signature).rstrip(b"=") != text:
        return False
    from cryptography.exceptions import InvalidSignature

    try:
        public_key(key).verify(signature, topic.encode() + b"\0" + payload[:start])
    except (InvalidSignature, ValueError):  # ValueError: these 32 bytes are no point of the curve
        return False
    return True


@lru_cache(maxsize=4096)
def public_key(key: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(key)


# certificates


def certified(cert_b64: str, authority: bytes) -> Certified:
    """What a node's certificate (base64 of DER, as in `info.cert`) says, if this authority (DER) made it.

    Raises SealError. The validity is not judged: the caller has the clock, and knows whether it is right. The signature is
    checked before anything else is looked at, so that strangers reach no more than the library's first parser.
    """
    try:
        der = base64.b64decode(cert_b64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SealError("the certificate is not base64") from error
    return _certified(der, authority)


def certified_to(der: bytes, authority: bytes) -> int:
    """Until when (unix seconds) a certificate holds. Raises SealError."""
    return _certified(der, authority).to_unix


@lru_cache(maxsize=1024)
def _certified(der: bytes, authority: bytes) -> Certified:
    from cryptography import x509

    cert, ca = parse(der), parse(authority)
    _check_signed(cert, ca)
    if der[-65]:  # bits left out of the 64 bytes of the signature: DER (X.690, 11.2) has one spelling, and none for Ed25519
        raise SealError("the certificate is damaged")
    if cert == ca:
        raise SealError("that is the authority's own certificate, not a node's")
    try:
        names = [str(name.value) for name in cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        roles = [str(name.value) for name in cert.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)]
        basic = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        alternative = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise SealError("the certificate is not of our form") from error
    if len(names) != 1 or not wire.is_id(names[0]) or roles not in ([], [OPERATOR]) or basic.ca:
        raise SealError("the certificate is not a node's")
    if alternative.get_values_for_type(x509.DNSName) != names:
        raise SealError("the certificate has two different names")
    return Certified(names[0], raw(cert), cert.serial_number, _from(cert), _to(cert), roles == [OPERATOR])


def parse(der: bytes) -> x509.Certificate:
    from cryptography import x509

    if len(der) > MAX_CERT:
        raise SealError("the certificate is too long")
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise SealError("the certificate is damaged") from error


def _check_signed(cert: x509.Certificate, ca: x509.Certificate) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        cert.verify_directly_issued_by(ca)  # names, algorithm and signature
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise SealError("the certificate is not from this network's authority") from error


def raw(cert: x509.Certificate) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = cert.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise SealError("the certificate's key is damaged") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SealError("the certificate's key is not Ed25519")
    return key.public_bytes_raw()


def _from(cert: x509.Certificate) -> int:
    return int(cert.not_valid_before_utc.timestamp())


def _to(cert: x509.Certificate) -> int:
    return int(cert.not_valid_after_utc.timestamp())


def ders_of(pem: bytes) -> list[bytes]:
    """The certificates in a PEM file, one at least. Raises SealError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return [cert.public_bytes(Encoding.DER) for cert in x509.load_pem_x509_certificates(pem)]
    except (ValueError, x509.InvalidVersion) as error:
        raise SealError("there is no certificate in it") from error


def der_of(pem: bytes) -> bytes:
    """The first certificate in a PEM file. Raises SealError."""
    return ders_of(pem)[0]


def pem_of(der: bytes) -> bytes:
    """A certificate as Mosquitto reads it. Raises SealError."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return parse(der).public_bytes(Encoding.PEM)


class Root(msgspec.Struct, frozen=True):
    """What a network's own certificate says. `fingerprint`: SHA-256 of its DER, for people to compare."""

    network: str
    fingerprint: str
    to_unix: int


def root_of(der: bytes) -> Root:
    """Of an authority's certificate. Raises SealError when it is none, or not signed by itself."""
    from cryptography import x509

    cert = parse(der)
    _check_signed(cert, cert)
    try:
        ca = cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        (name,) = cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise SealError("the certificate is not of our form") from error
    if not ca:
        raise SealError("the certificate is not an authority's")
    return Root(str(name.value), fingerprint(der), _to(cert))


def fingerprint(der: bytes) -> str:
    """As `openssl x509 -fingerprint -sha256` shows it, in lower case without colons."""
    return hashlib.sha256(der).hexdigest()


# private keys: never in a repr, a text or an exception


def new_key() -> bytes:
    """A private key: 32 random bytes (RFC 8032, 5.1.5)."""
    return os.urandom(32)


def public_of(key: bytes) -> bytes:
    """The public key of a private one. Raises SealError."""
    return private_key(key).public_key().public_bytes_raw()


def key_pem(key: bytes) -> bytes:
    """A private key as Mosquitto reads it: PKCS #8, RFC 8410 section 7; not encrypted."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return private_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_of(pem: bytes) -> bytes:
    """The private key in a PEM file. Raises SealError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SealError("there is no key in it") from None  # no chain: what the library says may quote what it read
    if not isinstance(key, Ed25519PrivateKey):
        raise SealError("the key in it is not Ed25519")
    return key.private_bytes_raw()


def private_key(key: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(key) != 32:
        raise SealError("a private key has 32 bytes")
    return Ed25519PrivateKey.from_private_bytes(key)


# who we are


def is_member(trust_dir: Path) -> bool:
    """Do these files make their node one of a closed network, be they whole or damaged? Raises OSError, ValueError as `finish`."""
    private.finish(trust_dir)
    return (trust_dir / CA).exists() or (trust_dir / CERT).exists()


class Member:
    """This node's own part in a closed network: its certificate and its key."""

    def __init__(self, ca: bytes, der: bytes, key: bytes) -> None:
        """Certificates as DER; `key`: the 32 private bytes. Raises SealError unless they belong together."""
        self.certified = _certified(der, ca)
        self._key = private_key(key)
        if self._key.public_key().public_bytes_raw() != self.certified.key:
            raise SealError("the key is not that of the certificate")
        self.ca, self.id, self.to_unix = ca, self.certified.id, self.certified.to_unix
        self.network = root_of(ca).network
        self.cert = base64.b64encode(der).decode()

    @classmethod
    def load(cls, trust_dir: Path) -> Member | None:
        """None: this node is in no closed network. Raises SealError when it is in one and its files cannot be used.

        Such a node must not go on as an open one.
        """
        try:
            if not is_member(trust_dir):
                return None
            ca, cert, key = ((trust_dir / name).read_bytes() for name in (CA, CERT, KEY))
        except OSError as error:
            raise SealError(f"{error.filename}: {error.strerror}") from error
        except ValueError:
            raise SealError(f"{trust_dir / private.PENDING} is damaged. Remove it, and do the last step anew") from None
        try:
            return cls(der_of(ca), der_of(cert), key_of(key))
        except SealError as error:
            raise SealError(f"{trust_dir}: {error}. Take a new bundle: 'grid admit' there, 'grid join --bundle' here") from error

    def sign(self, topic: str, body: bytes) -> bytes:
        """`body`, a compact JSON object with at least one key, with `sig` as its last key: see `verify`."""
        start = body[:-1]
        signature = base64.urlsafe_b64encode(self._key.sign(topic.encode() + b"\0" + start)).rstrip(b"=")
        return start + SIG + signature + END
