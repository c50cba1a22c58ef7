"""Power cuts of whole Pis, each in a network namespace: what the others say meanwhile, and how each comes back."""

import json
import os
import shutil
import time
from contextlib import suppress

import pytest
from conftest import Survived
from live import RATED_W, STALE_S, agreed
from netns import a_lan
from patience import wait_until, within
from witness import Witness

VICTIMS = ("plain", "cut-short", "zeroed", "read-only", "full", "empty")
DISK_KIB = 512


@pytest.fixture
def lan(tmp_path):
    with a_lan(tmp_path) as lan:
        yield lan


def documents(pi):
    return [path for path in pi.state.glob("*.json") if path.name != "full"]


def damage(lan):
    """What the cut did to the cards."""
    for path in documents(lan.pis["cut-short"]):
        os.truncate(path, path.stat().st_size // 2)
    for path in documents(lan.pis["zeroed"]):
        path.write_bytes(bytes(path.stat().st_size))
    for name in ("cut-short", "zeroed"):  # a database of an earlier set-up would stop a broker that reads it
        (lan.pis[name].state / "mosquitto.db").write_bytes(bytes(4096))
    lan.pis["read-only"].remount("ro")
    fill(lan.pis["full"])
    shutil.rmtree(lan.pis["empty"].state)
    lan.pis["empty"].state.mkdir()


def availability(pi):
    return {topic.rpartition("/")[2]: payload for topic, payload in pi.held("grid/availability/+").items()}


def fill(pi):
    """Not a byte is left."""
    with (pi.state / "full").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1024)):
            pass


def test_six_of_eight_lose_their_power_and_their_cards_suffer(lan, survived):
    """The two that stay count them out and widen the bounds; all return without a hand, from memory where the card is read-only."""
    watts = dict(zip(VICTIMS, (-1000, -2000, 4000, -300, 700, -50), strict=True))
    stay, other = lan.pi("stay", -400), lan.pi("other", 2500)
    for name in VICTIMS:
        lan.pi(name, watts[name])
    for name in ("read-only", "full"):
        lan.pis[name].disk(DISK_KIB)
    lan.pis["zeroed"].configure(f'[network]\njoin = ["{stay.address}:1883"]\n')
    # a card that forgets its siblings is dialled by one of them, or names one in its configuration
    pairs = [
        ("stay", "other"),
        ("other", "zeroed"),
        ("stay", "cut-short"),
        ("cut-short", "other"),
        ("stay", "empty"),
        ("empty", "other"),
    ]
    pairs += [(name, to) for name in ("plain", "read-only", "full") for to in ("stay", "other")]
    pis = lan.network(pairs)
    assert lan.pis["zeroed"].relation() == {"other": 1, "stay": 1}
    versions = {id_: row["version"] for id_, row in stay.status()["nodes"].items()}

    with Witness(lan) as witness:
        for name in VICTIMS:
            lan.pis[name].power_off()
        cut_s = time.monotonic()
        stay.start_meter(-650)  # an update that they must find on their return
        damage(lan)
        left = lan.agree([stay, other], heard=2)
        assert time.monotonic() - cut_s < STALE_S
        assert (left["net_w"], left["nodes"], left["partial"], left["members"]) == (1850, 8, True, ["other", "stay"])
        assert (left["low_w"], left["high_w"]) == (1850 - 6 * RATED_W, 1850 + 6 * RATED_W)
        for pi in (stay, other):
            # what they said last stays, and says good; it is not believed
            said = pi.held("grid/node/+/state")
            assert {json.loads(said[f"grid/node/{name}/state"])["quality"] for name in VICTIMS} == {"good"}
            wait_until(
                lambda pi=pi: availability(pi) == dict.fromkeys(VICTIMS, b"stale") | dict.fromkeys(("stay", "other"), b"online"), 5
            )

        for name in VICTIMS:
            lan.pis[name].power_on(own_broker=name == "read-only")
        agree_s = within(
            60,
            lambda: agreed(pis),
            lambda: [(pi.name, pi.status().get("summary"), pi.log()[-300:]) for pi in pis],
        )
        assert "No space left" in lan.pis["full"].alerts()["disk"]
        assert "Read-only file system" in lan.pis["read-only"].alerts()["disk"]
        lan.pis["read-only"].remount("rw")
        (lan.pis["full"].state / "full").unlink()
        # all that the disks refused is written without a further cause
        for mended in (lan.pis["full"], lan.pis["read-only"]):
            wait_until(lambda mended=mended: "disk" not in mended.alerts(), 15, mended.alerts)
            assert mended.kept("versions")["ceiling"] >= mended.status()["nodes"][mended.name]["version"]
        lan.agree(pis)
    for pi in pis:
        rows = pi.status()["nodes"]
        assert all(rows[id_]["version"] > versions[id_] for id_ in versions)
    for name in ("cut-short", "zeroed"):
        assert "siblings.json was damaged" in lan.pis[name].alerts()["store"]
    assert all(lan.pis[name].relation() == {"other": 1, "stay": 1} for name in VICTIMS)
    survived(Survived("power cuts, damaged cards", 8, 6, lan.lost(pis), len(witness.wrong), agree_s))
