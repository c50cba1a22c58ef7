"""Looks whether the configuration file was edited while the node runs."""

import threading
from collections.abc import Callable
from pathlib import Path

from agent.config import Config, ConfigError
from agent.events import Event, Warned
from agent.loop import End

LOOK_S = 2.0


class Watch:
    """Takes a valid new file by a restart; a broken one leaves the last good configuration in force and raises an alert."""

    def __init__(self, config: Config, load: Callable[[Path], Config], put: Callable[[Event | End], None]) -> None:
        self._config, self._load, self._put = config, load, put
        self._stop = threading.Event()

    def open(self) -> None:
        threading.Thread(target=self._work, name="watch", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            stat = self._config.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _work(self) -> None:
        seen = self._mark()
        while not self._stop.wait(LOOK_S):
            mark = self._mark()
            if mark == seen:
                continue
            seen = mark
            try:
                config = self._load(self._config.path)
            except ConfigError as error:
                self._put(Warned("config", f"{error}\nThe last good configuration stays in force"))
                continue
            self._put(Warned("config", ""))
            if config != self._config:
                self._put(End.RESTART)
                return
