"""Who belongs to a closed network, on disk: making the authority, admitting nodes, installing a bundle, renewing.

All paths are a node's trust directory, `trust/` in its state: ca.pem, node.pem, node.key, and where the authority is
authority/ca.key and authority/issued/ID.pem, the certificates made for an id, newest last.
"""

import base64
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent import bundle, durable, notary, private, seal, wire
from agent.bundle import Bundle, BundleError
from agent.certs import NODE_DAYS, Certified, dated, expired
from agent.events import Issued, Warned
from agent.notary import Authority
from agent.own import iso
from agent.seal import AUTHORITY_KEY, CA, CERT, KEY, Member, SealError

JOIN, REQUEST, ISSUED = "join.json", "request.key", "authority/issued"
MET = "seeds.json"  # in the state directory: addresses that need no second try
MAX_NAME = 40  # characters; it stands in every certificate
# names with a meaning to brokers and systems: nobody shall pass for them in an access list
FORBIDDEN = frozenset({*wire.RESERVED, "anonymous", "admin", "root", "mosquitto", "grid", "operator", "localhost"})


def check_name(name: str) -> str:
    """A network's name: any printable words. Raises SealError."""
    if not name.strip() or name != name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise SealError(f"a network's name has 1 to {MAX_NAME} printable characters and no blank at its ends")
    return name


def check_id(id_: str) -> str:
    """An id that may get a certificate. Raises SealError."""
    if not wire.is_id(id_):
        raise SealError(f"{id_[:40]!r} is no node's id: small letters, digits and hyphens within, 32 at the most")
    if id_ in FORBIDDEN:
        raise SealError(f"{id_!r} has a meaning of its own to a broker or a system: choose another id")
    return id_


# the network


def create(trust: Path, name: str, own_id: str, passphrase: str | None, unix_s: float) -> Authority:
    """A new network, with this node as its first member and operator: all of it or nothing. Raises SealError, OSError."""
    check_name(name)
    check_id(own_id)
    private.finish(trust)
    for place in (CA, CERT, AUTHORITY_KEY):
        if (trust / place).exists():
            raise SealError(f"this node belongs to a network already. To start anew, stop its agent and move {trust} away")
    made = Authority.new(name, unix_s)
    key = seal.new_key()
    cert = made.issue(own_id, seal.public_of(key), True, NODE_DAYS, dated(unix_s))
    own = {KEY: seal.key_pem(key), CERT: cert, f"{ISSUED}/{own_id}.pem": cert}
    private.write_all(trust, {**made.files(passphrase), **own})
    return made


def create_headless(trust: Path, name: str, own_id: str) -> None:
    """The same where nobody can type: the authority's key is plain on this node. Raises SealError, OSError."""
    create(trust, name, own_id, None, time.time())


def has_authority(trust: Path) -> bool:
    return (trust / AUTHORITY_KEY).exists()


def is_locked(trust: Path) -> bool:
    """Does this node's authority need its passphrase? Raises OSError."""
    return notary.locked((trust / AUTHORITY_KEY).read_bytes())


# admitting


def issued(trust: Path, id_: str) -> list[Certified]:
    """Every certificate that was made here for this id, newest last; [] for a stranger. Raises SealError, OSError."""
    try:
        pems = (trust / ISSUED / f"{check_id(id_)}.pem").read_bytes()
        ca = seal.der_of((trust / CA).read_bytes())
    except FileNotFoundError:
        return []
    return [seal.certified(base64.b64encode(der).decode(), ca) for der in seal.ders_of(pems)]


def admitted(trust: Path) -> list[str]:
    """All ids that were ever admitted here."""
    return sorted(path.stem for path in (trust / ISSUED).glob("*.pem"))


def admit(
    trust: Path, authority: Authority, id_: str, join: Sequence[str], operator: bool, key: bytes | None, unix_s: float
) -> Bundle:
    """A new member, with its key made here; or for the public `key` of its request. Raises SealError, OSError."""
    check_id(id_)
    own = Member.load(trust)
    if own is not None and own.id == id_:
        raise SealError(f"{id_} is this node itself, a member already")
    made = seal.new_key() if key is None else None
    public = seal.public_of(made) if made is not None else key
    assert public is not None
    bundle_ = Bundle(
        authority.root.network, id_, tuple(join), authority.ca, _issue(trust, authority, id_, public, operator, unix_s), made
    )
    bundle.read(bundle.write(bundle_).encode())  # a wrong address is told of here, not at the node
    return bundle_


def renew(trust: Path, authority: Authority, cert: Certified, unix_s: float) -> str:
    """The next certificate for the same key, as base64 of DER. Raises SealError, OSError."""
    return base64.b64encode(_issue(trust, authority, cert.id, cert.key, cert.operator, unix_s)).decode()


def _issue(trust: Path, authority: Authority, id_: str, key: bytes, operator: bool, unix_s: float) -> bytes:
    """Make a certificate (DER), and remember it: who was never heard can be revoked, too."""
    pem = authority.issue(id_, key, operator, NODE_DAYS, dated(unix_s))
    path = trust / ISSUED / f"{id_}.pem"
    private.folder(path.parent)
    durable.write(path, (path.read_bytes() if path.exists() else b"") + pem)
    return seal.der_of(pem)


def make_bundle(trust: Path, id_: str, join: Sequence[str]) -> str:
    """The text of a new node's bundle, by an authority whose key is plain. Raises SealError, BundleError, OSError."""
    return bundle.write(admit(trust, Authority.load(trust, None), id_, join, False, None, time.time()))


# becoming and staying a member


def request(trust: Path, own_id: str) -> bytes:
    """A request (PEM) for a certificate; its key is made here and stays. Asked again it is the same key. SealError, OSError."""
    check_id(own_id)
    path = trust / REQUEST
    if not path.exists():
        private.folder(trust)
        durable.write(path, seal.key_pem(seal.new_key()))
    return notary.request(own_id, seal.key_of(path.read_bytes()))


def install(trust: Path, data: bytes, own_id: str, unix_s: float, clock_good: bool) -> tuple[Bundle, bool]:
    """Make this node what a bundle says: all of it or nothing. Returns the bundle, and whether anything is new.

    Raises BundleError or SealError with what to do, OSError.
    """
    new = bundle.read(data)
    if new.id != own_id:
        raise BundleError(f"this bundle is for the node {new.id!r}, and this one is {own_id!r}. A bundle is for one node alone")
    private.finish(trust)
    key = new.key if new.key is not None else _requested(trust, new)
    try:
        member = Member(new.ca, new.cert, key)
    except SealError as error:
        raise BundleError(f"the bundle is damaged: {error}. Copy it again from where 'grid admit' wrote it") from error
    if member.id != new.id or member.network != new.network:
        raise BundleError("the bundle was changed: its names are not those of its certificates. Copy it again")
    if clock_good and expired(member.to_unix, unix_s):
        raise BundleError(f"the bundle has expired. Make a new one: grid admit {new.id}")
    _check_network(trust, new)
    files = {KEY: seal.key_pem(key), CERT: seal.pem_of(new.cert), CA: seal.pem_of(new.ca), JOIN: msgspec.json.encode(new.join)}
    held = _held(trust)
    if held is not None and held.to_unix > member.to_unix:
        if held.certified.key != member.certified.key:
            raise BundleError(
                f"this bundle is older than the one that made this node a member. Make a new one: grid admit {new.id}"
            )
        del files[CERT]  # renewed since: the bundle was left where every start finds it
    there = {name: path.read_bytes() for name in files if (path := trust / name).exists()}
    if there == files:
        return new, False
    private.write_all(trust, files)
    durable.remove(trust / REQUEST)
    durable.remove(trust.parent / MET)  # whom it met before counts no more: the bundle's addresses are tried again
    return new, True


def _requested(trust: Path, new: Bundle) -> bytes:
    for name in (REQUEST, KEY):
        if (trust / name).exists():
            key = seal.key_of((trust / name).read_bytes())
            if seal.public_of(key) == seal.certified(base64.b64encode(new.cert).decode(), new.ca).key:
                return key
    raise BundleError("the bundle answers a request whose key is not on this node. Make a new one: 'grid network request'")


def _held(trust: Path) -> Member | None:
    """The member that this node is; one whose files are damaged is none: a bundle mends it."""
    try:
        return Member.load(trust)
    except SealError:
        return None


def _check_network(trust: Path, new: Bundle) -> None:
    """A node changes its network only by a person's hand on its files: a bundle alone must not take it away."""
    if not (trust / CA).exists():
        return
    held = seal.der_of((trust / CA).read_bytes())
    if held != new.ca:
        texts = [f"{(root := seal.root_of(der)).network!r} ({root.fingerprint[:16]})" for der in (new.ca, held)]
        way_out = f"To change it over, stop its agent and move {trust} away"
        raise BundleError(f"this bundle is of the network {texts[0]}, and this node is a member of {texts[1]}. {way_out}")


def install_renewed(trust: Path, cert_b64: str) -> bool:
    """Take a newer certificate for the key that is here. False: it is not newer. Raises SealError, OSError."""
    member = Member.load(trust)
    if member is None:
        raise SealError("this node is in no closed network")
    new = seal.certified(cert_b64, member.ca)
    if (new.id, new.key) != (member.id, member.certified.key):
        raise SealError("the new certificate is not for this node's key")
    if new.to_unix <= member.to_unix:
        return False
    durable.write(trust / CERT, seal.pem_of(base64.b64decode(cert_b64)))
    return True


def joins(trust: Path) -> tuple[str, ...]:
    """The addresses that this node's bundle brought, to be dialled like those of [network] join. Never raises."""
    try:
        return tuple(msgspec.json.decode((trust / JOIN).read_bytes(), type=list[str]))
    except (OSError, ValueError):
        return ()


# what the running agent has done


def renewed(trust: Path, certs: Sequence[str], unix_s: float) -> Issued | Warned | None:
    """The next certificates, if the authority is here and its key is plain; a word for people when it is locked."""
    if not has_authority(trust):
        return None
    try:
        if is_locked(trust):
            ca = seal.der_of((trust / CA).read_bytes())
            ends = sorted((said.to_unix, said.id) for said in (seal.certified(cert, ca) for cert in certs))
            way_out = "'grid admit --renew' on this node renews all; it asks for the passphrase"
            names = ", ".join(id_ for _, id_ in ends)
            first = iso(ends[0][0])[:10] if ends else ""
            return Warned("authority", f"certificates must be renewed before {first}: {names}. {way_out}" if ends else "")
        made = Authority.load(trust, None)
        return Issued(tuple(renew(trust, made, seal.certified(cert, made.ca), unix_s) for cert in certs))
    except (OSError, SealError) as error:
        return Warned("authority", f"certificates cannot be renewed: {error}")


def installed(trust: Path, cert: str) -> Warned:
    """Our own next certificate is put in its place; the running agent sees that by itself."""
    try:
        install_renewed(trust, cert)
    except (OSError, SealError) as error:
        return Warned("certificate", f"the renewed certificate cannot be installed: {error}")
    return Warned("certificate", "")
