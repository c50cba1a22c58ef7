"""TOML text as values, and the line on which each of them stands (tomllib tells none)."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

Where = tuple[str | int, ...]  # ("meter", 0, "unit"): tables and keys by name, list items counted from 0
Token = tuple[str, int]  # a token and its line

_TOKEN = re.compile(
    r"""
      \n | [ \t]+ | \#[^\n]*
    | \"{3} (?: [^\\] | \\. )*? \"{3} \"{0,2}   # up to two quotes may stand right before the closing three
    | '{3} .*? '{3} '{0,2}
    | " (?: [^"\\\n] | \\. )* "
    | ' [^'\n]* '
    | [\[\]{},=]
    | [^\s\[\]{},=\#"']+
    """,
    re.VERBOSE | re.DOTALL,
)
_AT = re.compile(r"(?P<what>.*) \((?:at line (?P<line>\d+), column (?P<column>\d+)|at end of document)\)", re.DOTALL)
_LONG_NUMBER = re.compile(r"[\d_]{4300,}")  # CPython turns no longer run of digits into an int

# What tomllib says, and what a person most often did; the first that fits is told.
_WAYS_OUT: Final = (
    ("Cannot overwrite", "The same key stands there twice: keep one of them"),
    ("Duplicate inline table key", "The same key stands there twice: keep one of them"),
    ("Cannot declare", "The same [table] stands there twice: put its keys under one of them (each meter has a [[meter]])"),
    ("Invalid value", 'Text needs straight quotes, "like this"; true and false are written small; a number starts with a digit'),
    ("Expected newline", "One key = value a line; decimals have a point (0.30, not 0,30)"),
    ("Expected '='", "A line is [table], key = value, or a comment that starts with #"),
    ("Invalid statement", "A line is [table], key = value, or a comment that starts with #"),
    ("Unescaped", "Put text with a backslash between single quotes, 'C:\\like\\this'"),
    ("Unterminated string", "Close the text with a second quote on the same line"),
    ("Illegal character '\\n'", "Close the text with a second quote on the same line"),
    ("Illegal character", "Delete that character; it may not be visible in an editor"),
    ("Unclosed array", "Close the list with ] and put a comma between its items"),
    ("Unclosed inline table", "Close the table with } on the same line and put commas between its keys"),
)


class TomlError(Exception):
    """Text that is not TOML: `line`, `what` is wrong and the `way_out`."""

    def __init__(self, line: int, what: str, way_out: str) -> None:
        super().__init__(line, what, way_out)
        self.line, self.what, self.way_out = line, what, way_out


def read(text: str) -> tuple[dict[str, Any], dict[Where, int]]:
    """The values of `text`, decimals as exact `Decimal`, and the lines where they stand; raises TomlError."""
    text = text.replace("\r\n", "\n")
    try:
        return tomllib.loads(text, parse_float=_decimal), locate(text)
    except tomllib.TOMLDecodeError as error:
        raise _explained(str(error), text) from error
    except ValueError as error:
        found = _LONG_NUMBER.search(text)
        line = 1 + text.count("\n", 0, found.start() if found else 0)
        raise TomlError(line, "a number with thousands of digits", "Write a number that a meter could show") from error
    except RecursionError as error:
        raise TomlError(1, "lists stand too deep inside each other", "Start again from Grid's config/grid.toml") from error


def locate(text: str) -> dict[Where, int]:
    """The line (from 1) of every table, key and list item of `text`, which must be valid TOML with \\n line ends.

    What stands inside an inline table is not listed: it is on the line of the key or item that holds it, see `line_of`.
    """
    lines: dict[Where, int] = {(): 1}
    newest: dict[Where, int] = {}  # the index of the last [[table]] of each name so far
    table: Where = ()
    for statement in _statements(text):
        words, line = [word for word, _ in statement], statement[0][1]
        if words[0] == "[":
            many = words[1] == "["
            table = ()
            for part in (key := _key(words[1 + many : -1 - many]))[:-1]:
                table = _entered((*table, part), newest)
                lines.setdefault(table, line)
            table = (*table, key[-1])
            if many:
                newest[table] = newest.get(table, -1) + 1
                lines.setdefault(table, line)
            table = _entered(table, newest)
            lines[table] = line
        else:
            equals = words.index("=")
            where = table
            for part in _key(words[:equals]):
                where = (*where, part)
                lines.setdefault(where, line)
            _locate_items(statement[equals + 1 :], where, lines)
    return lines


def line_of(where: Where, lines: Mapping[Where, int]) -> int:
    """The line of `where`, or of the innermost thing around it that has one."""
    while where not in lines:
        where = where[:-1]
    return lines[where]


def _statements(text: str) -> Iterator[list[Token]]:
    """The [headers] and key = value pairs of `text`, without comments; a value in brackets may span lines."""
    statement: list[Token] = []
    line, depth = 1, 0
    for found in _TOKEN.finditer(text):
        word = found[0]
        if word == "\n":
            if depth == 0 and statement:
                yield statement
                statement = []
        elif word[0] not in " \t#":
            statement.append((word, line))
            depth += _step(word)
        line += word.count("\n")
    if statement:
        yield statement


def _step(word: str) -> int:
    return (word in ("[", "{")) - (word in ("]", "}"))


def _key(words: list[str]) -> list[str]:
    """The parts of a dotted key; tomllib itself takes the quotes and escapes off."""
    parts: list[str] = []
    level = tomllib.loads("".join(words) + "=0")
    while isinstance(level, dict):
        [(part, level)] = level.items()
        parts.append(part)
    return parts


def _entered(table: Where, newest: dict[Where, int]) -> Where:
    return (*table, newest[table]) if table in newest else table


def _locate_items(value: list[Token], where: Where, lines: dict[Where, int]) -> None:
    if value[0][0] != "[":
        return
    index = depth = 0
    for word, line in value:
        if depth == 1 and word == ",":
            index += 1
        elif depth == 1 and word != "]":
            lines.setdefault((*where, index), line)
        depth += _step(word)


def _decimal(text: str) -> Decimal:
    """Exact; an exponent beyond Decimal's own becomes infinite, so that the key's check refuses it on its line."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("inf")


def _explained(message: str, text: str) -> TomlError:
    found = _AT.fullmatch(message)
    what, line, column = (found["what"], found["line"], found["column"]) if found else (message, None, None)
    if line is None:  # the end of the text: what is wrong began where the last statement begins
        last = [statement[0][1] for statement in _statements(text)]
        line = last[-1] if last else 1
    way_out = next((way for start, way in _WAYS_OUT if what.startswith(start)), "Compare it with Grid's config/grid.toml")
    return TomlError(int(line), f"not TOML: {what}" + (f" (column {column})" if column else ""), way_out)
