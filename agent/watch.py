"""Looks whether the configuration file or the node's membership in a closed network changed while it runs."""

import threading
from collections.abc import Callable
from pathlib import Path

from agent import closed
from agent.closed import TRUST
from agent.config import Config, ConfigError
from agent.events import Event, Warned
from agent.loop import End
from agent.private import PENDING
from agent.seal import CA, CERT, KEY, SealError

LOOK_S = 2.0
Mark = tuple[int, int, int] | None


class Watch:
    """Takes a valid new file by a restart; a broken one leaves the last good configuration in force and raises an alert."""

    def __init__(
        self, config: Config, load: Callable[[Path], Config], put: Callable[[Event | End], None], told: str | None = None
    ) -> None:
        """`told` ($GRID_PROBLEMS): the file that says what was wrong with the boot partition's, until the next boot."""
        self._config, self._load, self._put = config, load, put
        self._before, self._said = _text(told), ""
        self._stop = threading.Event()

    def open(self) -> None:
        threading.Thread(target=self._work, name="watch", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _trusted(self) -> list[Mark]:
        """A half-written bundle is no change yet."""
        folder = self._config.state.dir / TRUST
        return [] if (folder / PENDING).exists() else [_mark(folder / name) for name in (CA, CERT, KEY)]

    def _say(self, problem: str) -> None:
        text = "\n".join(filter(None, (self._before, problem)))
        if text != self._said:
            self._said = text
            self._put(Warned("config", text))

    def _work(self) -> None:
        # no file's: the first look compares with what is in force, as it may have changed since that was read
        seen: Mark = (0, 0, 0)
        trusted = self._trusted()
        self._say("")
        while not self._stop.wait(LOOK_S):
            if (found := self._trusted()) and found != trusted:
                trusted = found
                try:
                    closed.load(self._config)
                except (SealError, ValueError, OSError) as error:
                    self._put(Warned("trust", f"{error}. The network stays as it was"))
                else:
                    self._put(End.RESTART)
                    return
            mark = _mark(self._config.path)
            if mark == seen:
                continue
            seen = mark
            try:
                config = self._load(self._config.path)
            except ConfigError as error:
                self._say(f"{error}\nThe last good configuration stays in force")
                continue
            self._say("")
            if config != self._config:
                self._put(End.RESTART)
                return


def _mark(path: Path) -> Mark:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _text(told: str | None) -> str:
    try:
        return Path(told).read_text().strip() if told else ""
    except (OSError, UnicodeDecodeError):
        return ""
