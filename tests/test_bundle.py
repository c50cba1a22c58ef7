"""The bundle's text: through Windows, with every letter changed, as any bytes; and its key, which nothing else ever shows."""

import base64
import io
import logging
import traceback

import pytest
from bundles import JOIN, NOW, bundle_for, first_node, shows, take
from hypothesis import given
from hypothesis import strategies as st

from agent import bundle, seal
from agent.authority import create
from agent.bundle import Bundle, BundleError
from agent.notary import Authority
from agent.seal import Member, SealError


@pytest.fixture
def oak(tmp_path):
    return first_node(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        lambda text: text.decode().replace("\n", "\r\n").encode("utf-16"),
        lambda text: b"\n".join(line for line in text.splitlines() if not line.startswith(b"#")),
    ],
    ids=["bom", "crlf", "notepad", "utf-16", "no comments"],
)
def test_bundles_that_went_through_windows(oak, tmp_path, spoil):
    assert take(tmp_path, spoil(bundle_for(oak)))[1]


@given(st.data())
def test_no_letter_of_a_bundle_can_be_changed_unnoticed(made, data):
    """Either it is refused, or it says the very same (a comment, an address's digit)."""
    text = made
    at = data.draw(st.integers(0, len(text) - 1))
    spoilt = bytearray(text)
    spoilt[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    try:
        read = bundle.read(bytes(spoilt))
        member = Member(read.ca, read.cert, read.key)
    except (BundleError, SealError) as error:
        said = str(error)
    else:
        said = ""
        first = bundle.read(text)
        assert (member.cert, member.ca, read.key) == (base64.b64encode(first.cert).decode(), first.ca, first.key)
    assert not shows(said, text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    create(folder / "oak", "Oak", "oak", None, NOW)
    return bundle_for(folder / "oak")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_refused(data):
    with pytest.raises(BundleError):
        bundle.read(data)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"x" * 17_000, "too long"),
        (b"[" * 5000, "no bundle"),
        (b'network="a"\nid="Barn"\nca=""\ncert=""\n', "the id in it is none"),
        (b'network="a"\nid="b"\nca=""\ncert=""\njoin=["a b"]\n', "no HOST:PORT"),
        (b'network="a"\nid="b"\nca="!"\ncert=""\n', "no bundle"),
        (b'network="a"\nid="b"\nca=""\ncert=""\nwhat=1\n', "no bundle"),
        (b"", "no bundle"),
    ],
)
def test_files_that_are_no_bundle(text, why):
    with pytest.raises(BundleError, match=why):
        bundle.read(text)


@given(
    st.text(st.characters(codec="utf-8"), max_size=40).filter(str.isprintable),
    st.binary(max_size=99),
    st.binary(max_size=99),
    st.binary(max_size=32),
)
def test_what_is_written_is_read(name, ca, cert, key):
    for one in (Bundle(name, "a", JOIN, ca, cert, key), Bundle(name, "a", (), ca, cert, None)):
        assert bundle.read(bundle.compact(one).encode()) == one


# what is never shown


def test_no_key_is_in_any_repr_error_log_or_traceback(oak, tmp_path):
    data = bundle_for(oak)
    one = bundle.read(data)
    member, held = Member(one.ca, one.cert, one.key), Authority.load(oak, None)
    texts = [repr(thing) for thing in (one, member, held, vars(held), vars(member), [one], {"x": one}, member.certified)]
    texts += [str(one), f"{one}", f"{member!s}"]
    stream = io.StringIO()
    log = logging.Logger("test")
    log.addHandler(logging.StreamHandler(stream))
    key_line = next(line for line in data.splitlines() if line.startswith(b"key"))
    wrong = [
        data.replace(b'key = "', b"key = "),
        data.replace(b'key = "', b'key = 1 #"'),
        data.replace(key_line, key_line[:-1]),
        data.replace(key_line, key_line + key_line),
        data.replace(b"key =", b"kee ="),
        data.replace(b'"\nkey', b"\nkey"),
        data.replace(b'="', b'\xff="'),
        data.replace(key_line, b'key = "' + base64.b64encode(one.key[:-1]) + b'"'),
        data.replace(key_line, b'key = "' + base64.b64encode(one.key)[:-1] + b'"'),
        data.replace(key_line, b'key = ["' + base64.b64encode(one.key) + b'"]'),
        data + key_line,
    ]
    for number, text in enumerate(wrong):
        try:
            take(tmp_path, text, place=f"wrong-{number}")
        except (BundleError, SealError) as error:
            texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            log.exception("failed: %r", error)
    assert len(texts) == 11 + 3 * len(wrong)
    for broken in (
        seal.key_pem(one.key)[:-30],
        seal.key_pem(one.key).replace(b"MC4", b"MC5"),
        one.key,
        b"-----BEGIN PRIVATE KEY-----\n" + key_line,
    ):
        with pytest.raises(SealError) as caught:
            seal.key_of(broken)
        texts.append("".join(traceback.format_exception(caught.value)))
    for text in (*texts, stream.getvalue()):
        assert not shows(text, data)
    assert shows(data.decode(), data)  # the look itself finds one


def test_only_the_bundle_and_the_key_file_hold_a_key(oak, tmp_path):
    data = bundle_for(oak)
    take(tmp_path, data)
    key = bundle.read(data).key
    for root in (oak, tmp_path / "barn"):
        for path in root.rglob("*"):
            if path.is_file() and path.name != "node.key":
                assert key not in path.read_bytes()
                assert base64.b64encode(key) not in path.read_bytes()
    assert seal.key_of((tmp_path / "barn/trust/node.key").read_bytes()) == key
