"""toml_lines.py: the line of every key of any text, and text that is not TOML."""

# ruff: noqa: E501 (the messages, a line each, are the data of the tables)

import json
import tomllib

import pytest
from config_texts import NODE, problems
from hypothesis import given
from hypothesis import strategies as st

from agent import toml_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NODE + 'id = "b"\nzone = "c"', "4: file: not TOML: Cannot overwrite a value (column 9). The same key stands there twice: keep one"),
        (NODE + 'id = "b"', "4: file: not TOML: Cannot overwrite a value. The same key stands there twice: keep one of them"),
        (NODE + "[node]\n", "4: file: not TOML: Cannot declare ('node',) twice"),
        ("[node]\nid = my-house\n", '2: file: not TOML: Invalid value (column 6). Text needs straight quotes, "like this";'),
        ("[node]\nid = “my-house”\n", '2: file: not TOML: Invalid value (column 6). Text needs straight quotes, "like this";'),
        ("[tariff]\nimport = 0,30\n", "2: file: not TOML: Expected newline or end of document after a statement (column 11). One key ="),
        ("[node]\nhello\n", "2: file: not TOML: Expected '=' after a key in a key/value pair (column 6). A line is [table],"),
        ("[node]\n\0\n", "2: file: not TOML: Invalid statement (column 1). A line is"),
        ('[node]\nplace = "\0"\n', "2: file: not TOML: Illegal character '\\x00' (column 10). Delete that character"),
        ('[node]\nplace = "a\n"\n', "2: file: not TOML: Illegal character '\\n' (column 11). Close the text with"),
        ('[node]\nplace = """a\n\n', "2: file: not TOML: Unterminated string. Close the text with"),
        ("[network]\njoin = [\n'a',\n'b'\n", "2: file: not TOML: Unclosed array. Close the list with ]"),
        ("[state]\ndir = \"D:\\grid\"\n", "2: file: not TOML: Unescaped '\\' in a string (column 12). Put text with a backslash between"),
        ("\n\nx = " + "9" * 5000, "3: file: a number with thousands of digits. Write"),
        ("x = " + "[" * 5000, "1: file: lists stand too deep inside each other. Start again"),
        ("x = [", "1: file: not TOML: "),
        ("\ufeff" + NODE, "1: file: not TOML: Invalid statement"),
    ],
)  # fmt: skip
def test_text_that_is_not_toml(text: str, expected: str) -> None:
    [told] = problems(text)
    assert told[: len(expected)] == expected


@pytest.mark.parametrize(
    ("text", "where", "line"),
    [
        ("a = 1\n\nb = 2", ("b",), 3),
        ("[t]\na = 1", ("t",), 1),
        ("[t]\na = 1", ("t", "a"), 2),
        ("[t]\na.b = 1\na.c = 2", ("t", "a", "c"), 3),
        ("[t]\na.b = 1\na.c = 2", ("t", "a"), 2),
        ("[t.u]\na = 1\n[t]\nb = 1", ("t",), 3),
        ("[t.u]\na = 1", ("t",), 1),
        ("[[m]]\na = 1\n[[m]]\na = 2", ("m", 1, "a"), 4),
        ("[[m]]\na = 1\n[[m]]\na = 2", ("m",), 1),
        ("[[m]]\n[m.s]\na = 1\n[[m]]\n[m.s]\na = 2", ("m", 1, "s", "a"), 6),
        ("[[m]]\n[[m.n]]\n[[m.n]]\na = 1\n[[m]]\n[[m.n]]\na = 2", ("m", 0, "n", 1, "a"), 4),
        ("[[m]]\n[[m.n]]\n[[m.n]]\na = 1\n[[m]]\n[[m.n]]\na = 2", ("m", 1, "n", 0, "a"), 7),
        ("x = 1\nm = { a = 1, b = { c = 2 } }", ("m", "b", "c"), 2),
        ("m = [\n  { a = 1 },\n  { a = 2 },\n]", ("m", 1, "a"), 3),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("m", 1), 3),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("m", 2), 4),
        ("m = [ # [\n  [1,\n 2], '],',\n 3 ]\nb = 1", ("b",), 5),
        ('a = """\n[t]\n\\""" b = 1\\\n""""\nb = 2', ("b",), 5),
        ("a = '''\n[t]\n''b = 1\n''''\nb = 2", ("b",), 5),
        ('a = "# \\" ["\nb = 2', ("b",), 2),
        ('a = ["""x"""", "["]\nb = 2', ("b",), 2),
        ("a = ['''x'''', '[']\nb = 2", ("b",), 2),
        ("a = '\\'\nb = 2", ("b",), 2),
        ('"a.b" = 1\n\'c"\'."\\u00e4" = 2 # x', ('c"', "ä"), 2),
        ('"a.b" = 1\n\'c"\' . "\\u00e4"\t= 2 # x', ("a.b",), 1),
        ("[ t . 'u v' ]\n\ta = 1979-05-27 07:32:00\nb = 1", ("t", "u v", "b"), 3),
        ("[t]", ("t", "missing"), 1),
        ("a = 1", ("t", "missing"), 1),
    ],
)
def test_lines_of_keys(text: str, where: toml_lines.Where, line: int) -> None:
    values, lines = toml_lines.read(text)
    assert values
    assert toml_lines.line_of(where, lines) == line
    assert toml_lines.read(text.replace("\n", "\r\n")) == (values, lines) or "'''" in text or '"""' in text


STRINGS = st.text(st.sampled_from("a\\\"'#[]{}=,.\n "), max_size=8)
SPELLED = st.one_of(
    STRINGS.map(json.dumps),
    STRINGS.filter(lambda text: "'" not in text and "\n" not in text).map(lambda text: f"'{text}'"),
    STRINGS.filter(lambda text: "\\" not in text and '"""' not in text and not text.endswith('"')).map(
        lambda text: f'"""{text}"""'
    ),
    STRINGS.filter(lambda text: "'''" not in text and not text.endswith("'")).map(lambda text: f"'''{text}'''"),
)

NESTED = st.recursive(
    st.one_of(SPELLED, st.just("1")),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[\n" + " , # ],\n".join(items) + "\n]"),
)


@given(st.lists(st.tuples(st.sampled_from(["key", "quoted", "table", "array", "comment"]), NESTED, SPELLED), max_size=8))
def test_lines_of_any_text(statements: list[tuple[str, str, str]]) -> None:
    text, table, count, expected = "", (), 0, {}
    for index, (kind, value, name) in enumerate(statements):
        line = text.count("\n") + 1
        if kind == "table":
            table = (f"t{index}",)
            text += f"[ t{index} ] # ]\n"
            expected[table] = line
        elif kind == "array":
            table, count = ("m", count), count + 1
            text += "[[m]]\n"
            expected[table] = line
        elif kind == "comment":
            text += '# """ [ {\n\t\n'
        elif kind == "quoted" and "\n" not in name and name[:3] not in ('"""', "'''"):
            text += f"k{index} . {name} = {value}\n"
            expected[(*table, f"k{index}", tomllib.loads(f"x = {name}")["x"])] = line
        else:
            text += f"k{index}= {value} # [\n"
            expected[(*table, f"k{index}")] = line
    lines = toml_lines.locate(text)
    assert {where: lines[where] for where in expected} == expected
