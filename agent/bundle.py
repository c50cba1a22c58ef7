"""The one file that makes a node a member: its text, read and written."""

import base64
import binascii
import tomllib

import msgspec

from agent import wire
from agent.address import to_address

MAX_BYTES = 16 * 1024
HEAD = """\
# Grid: makes the node {id} a member of the network {network}.
# {secret}
# Onto the card's boot partition as {id}.bundle, or: grid join --bundle FILE
"""
SECRET = "Whoever has this file can be that node: one node, one file, and no copy left behind."
OPEN = "It is of use only to the node that asked for it."


class BundleError(ValueError):
    """A file that is no bundle; the text says what to do and quotes nothing of it."""


class Bundle(msgspec.Struct, frozen=True):
    """Certificates as DER; `join`: host:port of TLS listeners; `key`: 32 private bytes, None when the node made its own."""

    network: str
    id: str
    join: tuple[str, ...]
    ca: bytes
    cert: bytes
    key: bytes | None

    def __repr__(self) -> str:
        return f"<bundle of {self.id}>"  # no log and no crash report shows the key


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    network: str
    id: str
    ca: str
    cert: str
    join: list[str] = []
    key: str | None = None

    def __repr__(self) -> str:
        return "<bundle>"


def write(bundle: Bundle) -> str:
    """As TOML: every value in double quotes on one line, so that any mail or editor may touch the file."""
    head = HEAD.format(id=bundle.id, network=bundle.network, secret=SECRET if bundle.key is not None else OPEN)
    return head + compact(bundle)


def compact(bundle: Bundle) -> str:
    """The same without the words: small enough for a QR code."""
    rows = [f"network = {_quoted(bundle.network)}", f'id = "{bundle.id}"']
    if bundle.join:
        rows.append(f"join = [{', '.join(map(_quoted, bundle.join))}]")
    rows += [f'{name} = "{base64.b64encode(data).decode()}"' for name, data in (("ca", bundle.ca), ("cert", bundle.cert))]
    if bundle.key is not None:
        rows.append(f'key = "{base64.b64encode(bundle.key).decode()}"')
    return "\n".join(rows) + "\n"


def read(data: bytes) -> Bundle:
    """What a file says; whether it is true is for the holder of the library to check. Raises BundleError."""
    if len(data) > MAX_BYTES:
        raise BundleError("this is no bundle: it is too long")
    try:
        rows = msgspec.convert(tomllib.loads(_text(data)), type=_File)
        ca, cert = (base64.b64decode(text, validate=True) for text in (rows.ca, rows.cert))
        key = base64.b64decode(rows.key, validate=True) if rows.key is not None else None
    except (binascii.Error, ValueError, RecursionError):  # TOMLDecodeError, UnicodeDecodeError, ValidationError
        # from None: what they say may quote the key
        raise BundleError("this is no bundle, or a damaged one. Copy it again from where 'grid admit' wrote it") from None
    if not wire.is_id(rows.id):
        raise BundleError("the id in it is none. Make it again with 'grid admit'")
    for address in rows.join:
        if to_address(address) is None:
            raise BundleError(f"{address[:80]!r} in its line join is no HOST:PORT. Write it as 192.0.2.7:8883")
    return Bundle(rows.network, rows.id, tuple(rows.join), ca, cert, key)


def _text(data: bytes) -> str:
    """Notepad marks UTF-8 with three bytes, writes UTF-16 when asked for "Unicode", and ends lines its own way."""
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are its, too."""
    return msgspec.json.encode(text).decode()
