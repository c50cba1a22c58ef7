"""A witness of a pretend Ethernet: what no node may ever show."""

import threading
from collections.abc import Iterator
from typing import Any

from live import RATED_W
from netns import Lan
from pi import Pi

LOOK_S = 0.2  # a pause between two rounds


class Witness:
    """Asks every agent again and again, and writes down what must never be seen."""

    def __init__(self, lan: Lan, walking: bool = False, rated: dict[str, int] | None = None) -> None:
        self.lan, self.walking, self.rated = lan, walking, rated or {}
        self.looks = 0
        self.wrong: list[str] = []
        self.seen: dict[str, list[dict[str, Any]]] = {}  # by the name of the node: its summaries in order
        self._said: dict[str, tuple[Any, ...]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="witness", daemon=True)

    def __enter__(self) -> "Witness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _work(self) -> None:
        while not self._stop.wait(LOOK_S):
            for pi in list(self.lan.pis.values()):
                status = pi.status()
                if status:
                    self.looks += 1
                    self.wrong += [f"{pi.name}: {text}: {status}" for text in self._faults(pi, status)]
                    self.seen.setdefault(pi.name, []).append(status["summary"])

    def _faults(self, pi: Pi, status: dict[str, Any]) -> Iterator[str]:
        summary, nodes = status["summary"], status["nodes"]
        members = summary["members"]
        if len(set(members)) != len(members) or summary["heard"] != len(members) or summary["heard"] > summary["nodes"]:
            yield "members counted double or not at all"
        if summary["net_w"] != sum(nodes[id_]["net_w"] for id_ in members):
            yield "the net is not the sum of its members"
        for id_ in members:
            shown = set().union(*(other.shown for other in self.lan.pis.values() if other.id == id_))
            if not self.walking and shown and nodes[id_]["net_w"] not in shown:
                yield f"{id_} never showed {nodes[id_]['net_w']} W"
        unknown_w = sum(self.rated.get(id_, RATED_W) for id_ in nodes if id_ not in members)
        if len(nodes) != summary["nodes"] or (summary["low_w"], summary["high_w"]) != (
            summary["net_w"] - unknown_w,
            summary["net_w"] + unknown_w,
        ):
            yield "bounds are not widened by the ratings of the unknown"
        if summary["oldest_s"] < 0 or any((row["age_s"] or 0) < 0 for row in nodes.values()):
            yield "negative age"
        said = (summary["net_w"], summary["price_u"], summary["sell_u"])
        if self._said.setdefault(summary["digest"], said) != said:
            yield "one digest, two nets or prices"
