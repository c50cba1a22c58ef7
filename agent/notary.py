"""The authority's side of a closed network: its key, locked by a passphrase, and the certificates that it makes.

X.509 as RFC 5280 has it, with Ed25519 by RFC 8410. Only the command line and a network's first node come here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent import private, seal, wire
from agent.certs import CA_DAYS, dated
from agent.seal import AUTHORITY_KEY, CA, OPERATOR, SealError
from agent.wire import DAY_S

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MIN_PASSPHRASE = 8
# Passphrase to key: RFC 7914 with N = 2^16, r = 8, p = 1: 64 MB and a third of a second on a desktop. The library's own PEM
# encryption counts to 2048 with PBKDF2, which a stolen card would not withstand.
SCRYPT_LOG_N, MAX_LOG_N = 16, 18
LOCKED = b"grid-authority-key/1 scrypt "


class Authority:
    """Who may say who belongs to a network: the holder of the key of `ca.pem`."""

    def __init__(self, ca: bytes, key: bytes) -> None:
        """Raises SealError unless the certificate (DER) and the private key belong together."""
        self.ca, self.root = ca, seal.root_of(ca)
        self._key = seal.private_key(key)
        if self._key.public_key().public_bytes_raw() != seal.raw(seal.parse(ca)):
            raise SealError("the authority's key is not that of its certificate")

    @classmethod
    def new(cls, name: str, unix_s: float) -> Authority:
        """A network of this name, valid for 30 years from then; not written anywhere yet."""
        key = seal.new_key()
        return cls(_make_ca(name, key, dated(unix_s)), key)

    def files(self, passphrase: str | None) -> dict[str, bytes]:
        """What is to be kept, by its place in the trust directory; without a passphrase the key is plain."""
        key = self._key.private_bytes_raw()
        return {AUTHORITY_KEY: seal.key_pem(key) if passphrase is None else lock(key, passphrase), CA: seal.pem_of(self.ca)}

    @classmethod
    def create(cls, trust_dir: Path, name: str, passphrase: str | None, unix_s: float) -> Authority:
        """A new network's authority alone. Raises SealError when there is one already; OSError."""
        if (trust_dir / CA).exists() or (trust_dir / AUTHORITY_KEY).exists():
            raise SealError(f"{trust_dir} belongs to a network already")
        made = cls.new(name, unix_s)
        private.write_all(trust_dir, made.files(passphrase))
        return made

    @classmethod
    def load(cls, trust_dir: Path, passphrase: str | None) -> Authority:
        """Raises SealError: no authority here, wrong passphrase, or none given for a key that needs one; OSError."""
        try:
            ca, text = (trust_dir / CA).read_bytes(), (trust_dir / AUTHORITY_KEY).read_bytes()
        except FileNotFoundError as error:
            raise SealError("the network's authority is not on this node") from error
        if not locked(text):
            return cls(seal.der_of(ca), seal.key_of(text))
        if passphrase is None:
            raise SealError("the authority's key needs its passphrase")
        return cls(seal.der_of(ca), unlock(text, passphrase))

    def issue(self, id_: str, key: bytes, operator: bool, days: int, unix_s: float) -> bytes:
        """A certificate (PEM) for this node's public key, valid until `days` after `unix_s`. Raises SealError."""
        if not wire.is_id(id_):
            raise SealError(f"{id_!r} is no node's id")
        return seal.pem_of(_make_cert(self.ca, self._key, id_, key, operator, int(unix_s) + days * DAY_S))


# the key at rest: never in a repr, a text or an exception


def lock(key: bytes, passphrase: str) -> bytes:
    """A private key encrypted with a passphrase: scrypt (RFC 7914) and AES-256-GCM (NIST SP 800-38D), one line of text."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = os.urandom(16), os.urandom(12)
    header = LOCKED + b"%d %s " % (SCRYPT_LOG_N, salt.hex().encode())
    sealed = AESGCM(_stretched(passphrase, salt, SCRYPT_LOG_N)).encrypt(nonce, key, header)
    return header + (nonce + sealed).hex().encode() + b"\n"


def locked(text: bytes) -> bool:
    """Does this file need a passphrase?"""
    return text.startswith(LOCKED)


def unlock(text: bytes, passphrase: str) -> bytes:
    """Raises SealError: the passphrase is wrong, or the file is damaged; the two cannot be told apart."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        log_n, salt, sealed = text.removeprefix(LOCKED).split()
        size, pepper, rest = int(log_n), bytes.fromhex(salt.decode()), bytes.fromhex(sealed.decode())
        if not locked(text) or not 14 <= size <= MAX_LOG_N or len(rest) != 12 + 32 + 16:
            raise ValueError
    except ValueError:
        raise SealError("the authority's key file is damaged") from None
    header = LOCKED + b"%s %s " % (log_n, salt)
    try:
        return AESGCM(_stretched(passphrase, pepper, size)).decrypt(rest[:12], rest[12:], header)
    except InvalidTag:
        raise SealError("wrong passphrase, or the authority's key file is damaged") from None


def _stretched(passphrase: str, salt: bytes, log_n: int) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=2**log_n, r=8, p=1, maxmem=2**30, dklen=32)


# a node that makes its own key


def request(id_: str, key: bytes) -> bytes:
    """A request for a certificate (PEM; PKCS #10, RFC 2986), signed with the node's own key, which stays where it is."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, id_)])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(seal.private_key(key), None).public_bytes(Encoding.PEM)
    )


def requested(pem: bytes) -> tuple[str, bytes]:
    """The id and the public key in a request. Raises SealError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        asked = x509.load_pem_x509_csr(pem)
        names = [str(name.value) for name in asked.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        key, holds = asked.public_key(), asked.is_signature_valid
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise SealError("this is no request, or a damaged one: make it with 'grid network request'") from error
    if len(names) != 1 or not wire.is_id(names[0]) or not isinstance(key, Ed25519PublicKey) or not holds:
        raise SealError("this is not a node's request: make it with 'grid network request'")
    return names[0], key.public_bytes_raw()


# forms


def _builder(to_unix: int) -> x509.CertificateBuilder:
    """Valid since 1970: a clock that is behind, even at the start of its count, locks nobody out."""
    from datetime import UTC, datetime

    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(0, UTC))
        .not_valid_after(datetime.fromtimestamp(to_unix, UTC))
    )


def _usage(sign: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca(name: str, key: bytes, unix_s: float) -> bytes:
    """Signed by itself; no other authority below it (RFC 5280, 4.2.1.9)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    own = seal.private_key(key)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    cert = (
        _builder(int(unix_s) + CA_DAYS * DAY_S)
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(own.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .sign(own, None)
    )
    return cert.public_bytes(Encoding.DER)


def _make_cert(ca: bytes, signer: Ed25519PrivateKey, id_: str, key: bytes, operator: bool, to_unix: int) -> bytes:
    """For both ends of a TLS link: a node is server to some siblings and client to others (RFC 5280, 4.2.1.12)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, id_)]
    if operator:
        names.append(x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, OPERATOR))
    public = seal.public_key(key)
    cert = (
        _builder(to_unix)
        .subject_name(x509.Name(names))
        .issuer_name(seal.parse(ca).subject)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH, x509.OID_CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(id_)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, None)
    )
    return cert.public_bytes(Encoding.DER)
