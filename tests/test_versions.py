"""Versions side by side: what each is called, when one is whole, which one is current, and which ones go."""

import os
from pathlib import Path

import pytest
from pretend_grid import unpack, wheel

from agent import versions
from agent.versions import VersionError


def test_the_name_tells_version_and_content(tmp_path: Path) -> None:
    name = versions.name_of(wheel(tmp_path, "1.2.0"))
    assert name.startswith("1.2.0-")
    assert len(name) == len("1.2.0-") + 8
    assert versions.name_of(wheel(tmp_path / "same", "1.2.0")) == name
    assert versions.name_of(wheel(tmp_path / "other", "1.2.0", "mute")) != name
    checkout = tmp_path / "checkout"
    (checkout / "agent/__pycache__").mkdir(parents=True)
    (checkout / "agent/version.py").write_text('VERSION = "9"\n')
    first = versions.name_of(checkout)
    assert first.startswith("9-")
    (checkout / "agent/__pycache__/x.pyc").write_text("is not looked at")
    (checkout / "notes.txt").write_text("is not looked at")
    assert versions.name_of(checkout) == first
    (checkout / "setup.cfg").write_text("counts")
    assert versions.name_of(checkout) != first
    for path in (tmp_path, tmp_path / "none", checkout / "notes.txt"):
        with pytest.raises(VersionError):
            versions.name_of(path)


def test_half_a_virtualenv_is_made_anew(tmp_path: Path) -> None:
    source = wheel(tmp_path, "1")
    env = tmp_path / versions.name_of(source)
    (env / "bin").mkdir(parents=True)
    (env / "bin/python").write_text("half")
    assert not versions.works(env)
    (env / versions.DONE).touch()  # looks whole, but its Python is gone
    assert not versions.works(env)
    assert versions.make(source, tmp_path, unpack) == env
    assert versions.works(env)


def test_the_link_is_swapped_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions.current(tmp_path) is None
    versions.switch(tmp_path, tmp_path / "1")
    (tmp_path / "current.new").symlink_to("left over")  # of one that was killed
    versions.switch(tmp_path, tmp_path / "2")
    assert versions.current(tmp_path) == tmp_path / "2"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        versions.switch(tmp_path, tmp_path / "3")
    assert versions.current(tmp_path) == tmp_path / "2"


def test_only_virtualenvs_are_pruned(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name / "bin").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    versions.switch(tmp_path, tmp_path / "3")
    versions.prune(tmp_path, [tmp_path / "2", tmp_path / "3"])
    assert sorted(os.listdir(tmp_path)) == ["2", "3", "current", "notes"]
