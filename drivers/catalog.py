"""The catalog: which meter models are known, each in one file of drivers/meters; only the map asked for is read."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from drivers.mapfile import parse
from drivers.registers import Map, MapError

_FOLDER = Path(__file__).with_name("meters")


def models() -> dict[str, Map]:
    """Every map of the catalog by its id, sorted."""
    return {path.stem: _shipped(path) for path in sorted(_FOLDER.glob("*.toml"))}


def names() -> list[str]:
    """All ids and marketing names that `find` takes."""
    return sorted({name for map_ in models().values() for name in (map_.id, *map_.models)})


def find(model: str) -> Map:
    """The map of an id ("eastron-sdm630"), of a marketing name ("SDM630-Modbus") or of a file of one's own ("my/meter.toml").

    Capitals do not matter. Raises MapError with the nearest names when there is none.
    """
    if model.endswith(".toml"):
        return _load(Path(model))
    path = _FOLDER / f"{model.lower()}.toml"
    if path.parent == _FOLDER and path.is_file():
        return _shipped(path)
    known = {name.lower(): (name, map_) for map_ in models().values() for name in (map_.id, *map_.models)}
    if model.lower() in known:
        return known[model.lower()][1]
    close = [known[name][0] for name in get_close_matches(model.lower(), known, 3, 0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(map_.id for map_ in models().values())}"
    raise MapError(f"no meter model {model!r}; {hint} A map of your own is named by its path, ending in .toml")


@cache
def _shipped(path: Path) -> Map:
    """A file of the folder does not change while the program runs, and all of them are read to find a marketing name."""
    return _load(path)


def _load(path: Path) -> Map:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MapError(f"{path}: cannot be read: {error}. Name a map file that exists, in UTF-8") from error
    return parse(text, str(path))
