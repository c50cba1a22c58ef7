"""deploy/install.sh and what it installs: into a directory, twice, and out of it again; systemd's own opinion of the units."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretend_grid import tree, unpack, wheel

from agent import root as composition
from agent import versions

HERE = Path(__file__).resolve().parent.parent
FILES = HERE / "deploy/files"
UNITS = sorted((FILES / "usr/lib/systemd/system").iterdir())
COPIED = {str(path.relative_to(FILES)) for path in FILES.rglob("*") if path.is_file()}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt install systemd"
)


def install(root: Path, *options: str, program: Path = HERE / "deploy/install.sh") -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PIP_NO_INDEX": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(program), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A root directory with version 1 in it, and what was said."""
    folder = tmp_path_factory.mktemp("install")
    done = install(folder / "root", "--from", str(wheel(folder, "1")))
    assert done.returncode == 0, done.stderr
    return folder / "root", done.stderr


@pytest.fixture
def root(made: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made[0], tmp_path / "root", symlinks=True)
    return tmp_path / "root"


def test_what_an_installation_holds(made: tuple[Path, str]) -> None:
    root, said = made
    assert {name for name in COPIED if (root / name).read_bytes() != (FILES / name).read_bytes()} == set()
    assert {name for name in COPIED if (root / name).stat().st_mode & 0o777 != 0o644} == set()
    assert not (root / "etc/grid/grid.toml").is_symlink()
    assert os.readlink(root / "usr/local/bin/grid") == "/opt/grid/current/bin/grid"
    env = root / "opt/grid" / os.readlink(root / "opt/grid/current")
    assert re.fullmatch(r"1-[0-9a-f]{8}", env.name)
    for unit in UNITS:
        enabled = root / "etc/systemd/system/multi-user.target.wants" / unit.name
        assert os.readlink(enabled) == f"/usr/lib/systemd/system/{unit.name}"
        assert f"wrote /usr/lib/systemd/system/{unit.name}" in said
    assert not list(root.rglob("*.new"))


def test_an_installation_for_elsewhere_names_the_python_of_there(made: tuple[Path, str]) -> None:
    env = (made[0] / "opt/grid/current").resolve()
    assert (env / "bin/grid").read_text().splitlines()[0] == f"#!/opt/grid/{env.name}/bin/python"
    here = os.fsencode(made[0])
    assert [path for path in (env / "bin").iterdir() if not path.is_symlink() and here in path.read_bytes()] == []
    assert not os.readlink(env / "bin/python3").startswith(str(made[0]))


def test_the_second_run_changes_nothing_and_says_so(made: tuple[Path, str]) -> None:
    root = made[0]
    before = tree(root)
    done = install(root, "--from", str(root.parent / "grid_edge_agent-1-py3-none-any.whl"))
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "Nothing to do: all is as it should be."
    assert {name for name, what in tree(root).items() if before.get(name) != what} <= {"opt/grid/.lock"}


def test_a_run_mends_what_differs_and_keeps_the_configuration(root: Path, tmp_path: Path) -> None:
    unit, config = root / "usr/lib/systemd/system/grid.service", root / "etc/grid/grid.toml"
    unit.write_text("damaged")
    config.write_text("mine")
    done = install(root, "--from", str(wheel(tmp_path, "1")))
    assert done.returncode == 0
    assert unit.read_bytes() == (FILES / "usr/lib/systemd/system/grid.service").read_bytes()
    assert config.read_text() == "mine"
    assert [line for line in done.stderr.splitlines() if line.startswith(("wrote", "Nothing"))] == [
        "wrote /usr/lib/systemd/system/grid.service"
    ]


def test_a_copy_without_links_keeps_the_configuration(root: Path, tmp_path: Path) -> None:
    """As an archive or a Windows checkout has it: what was a link to the commented file is a file like any other."""
    shutil.copytree(HERE / "deploy", tmp_path / "deploy")
    (tmp_path / "agent").symlink_to(HERE / "agent")
    assert not (tmp_path / "deploy/files/etc/grid/grid.toml").is_symlink()
    config = root / "etc/grid/grid.toml"
    config.write_text("mine")
    done = install(root, "--from", str(wheel(tmp_path, "1")), program=tmp_path / "deploy/install.sh")
    assert (done.returncode, config.read_text()) == (0, "mine")
    assert install(root, "--uninstall", program=tmp_path / "deploy/install.sh").returncode == 0
    assert config.read_text() == "mine"


def test_the_agent_can_read_what_a_checkout_keeps_to_its_owner(root: Path, tmp_path: Path) -> None:
    """One that was made under umask 077; its user is not the service's."""
    shutil.copytree(HERE / "deploy", tmp_path / "deploy")
    (tmp_path / "agent").symlink_to(HERE / "agent")
    for path in (tmp_path / "deploy").rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    (root / "etc/grid/grid.toml").unlink()
    shutil.rmtree(root / "usr/lib")
    done = install(root, "--from", str(wheel(tmp_path, "1")), program=tmp_path / "deploy/install.sh")
    assert done.returncode == 0
    assert {name for name in COPIED if (root / name).stat().st_mode & 0o777 != 0o644} == set()


def test_places_may_have_spaces_in_their_names(tmp_path: Path) -> None:
    """The checkout, where it is installed, and what."""
    shutil.copytree(HERE / "deploy", tmp_path / "my grid/deploy")
    (tmp_path / "my grid/agent").symlink_to(HERE / "agent")
    source, root, program = wheel(tmp_path / "the wheels", "1"), tmp_path / "the card", tmp_path / "my grid/deploy/install.sh"
    done = install(root, "--from", str(source), program=program)
    assert done.returncode == 0, done.stderr
    env = (root / "opt/grid/current").resolve()
    assert os.fsencode(tmp_path) not in (env / "bin/grid").read_bytes()
    assert f"/opt/grid/{env.name}/bin/python" in (env / "bin/grid").read_text()
    assert install(root, "--uninstall", program=program).returncode == 0
    assert files(root) == {"etc/grid/grid.toml"}


def test_a_new_version_leaves_the_one_before_beside_it(root: Path, tmp_path: Path) -> None:
    before = os.readlink(root / "opt/grid/current")
    source = wheel(tmp_path, "2")
    versions.make(source, root / "opt/grid", unpack)  # as pip would, without its seconds
    done = install(root, "--from", str(source))
    assert done.returncode == 0
    assert f"installed {os.readlink(root / 'opt/grid/current')}" in done.stderr
    assert os.readlink(root / "opt/grid/current").startswith("2-")
    assert (root / "opt/grid" / before / "grid-is-complete").exists()


def test_what_cannot_be_installed_changes_nothing(root: Path, tmp_path: Path) -> None:
    path = wheel(tmp_path, "3").rename(tmp_path / "paho_mqtt-2.1-py3-none-any.whl")
    before = tree(root)
    done = install(root, "--from", str(path))
    assert done.returncode == 1
    assert "neither a wheel of Grid" in done.stderr
    after = tree(root)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"opt/grid", "opt/grid/.lock"}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_uninstalling_leaves_the_configuration_alone(root: Path) -> None:
    for name in ("mill/edges.json", "mill/bridges/oak.conf", "mill/ledger.db", "older/a b/records.json", "mill/trust/broker.json"):
        (root / "var/lib/grid" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "var/lib/grid" / name).write_text("{}")
    (root / "var/lib/grid/mill/link").symlink_to(root / "etc/grid")
    (root / "usr/lib/systemd/system/other.service").write_text("another's")
    (root / "usr/local/bin/other").write_text("another's")
    done = install(root, "--uninstall")
    assert done.returncode == 0
    assert "left: /etc/grid (your configuration)" in done.stderr
    assert "/var/lib/grid" not in done.stderr
    others = {"usr/lib/systemd/system/other.service", "usr/local/bin/other"}
    assert files(root) == {"etc/grid/grid.toml"} | others
    assert not (root / "var/lib/grid").exists()


@pytest.mark.parametrize("key", ["trust/authority/ca.key", "trust/node.key", "trust/request.key", "trust/pending"])
def test_uninstalling_keeps_what_nobody_can_make_again_until_it_is_purged(root: Path, key: str) -> None:
    """Without its authority's key a closed network lets nobody in any more; a member would need another bundle."""
    kept = {f"var/lib/grid/mill/{name}" for name in ("trust/ca.pem", "trust/authority/issued/oak.pem", key)}
    for name in (*kept, "var/lib/grid/mill/records.json", "var/lib/grid/older/trust/ca.pem", "var/lib/grid/older/records.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    for _ in range(2):
        done = install(root, "--uninstall")
        assert done.returncode == 0
        says = "left: /var/lib/grid/mill/trust (keys of a closed network), of the user grid; --uninstall --purge removes them"
        assert [line for line in done.stderr.splitlines() if "/var/lib" in line] == [says]
        assert kept <= files(root)
        assert not {name for name in files(root) if name.endswith("records.json")}
    assert "Nothing to do: Grid is not installed." in done.stderr
    purged = install(root, "--uninstall", "--purge")
    assert (purged.returncode, "removed Grid." in purged.stderr, "/var/lib" in purged.stderr) == (0, True, False)
    assert files(root) == {"etc/grid/grid.toml"}
    assert not (root / "var/lib/grid").exists()


def test_uninstalling_leaves_no_directories_and_may_be_done_twice(root: Path) -> None:
    assert install(root, "--uninstall").returncode == 0
    assert {str(path.relative_to(root)) for path in root.rglob("*")} - {"var", "var/lib"} == {
        "etc",
        "etc/grid",
        "etc/grid/grid.toml",
    }
    again = install(root, "--uninstall")
    assert again.returncode == 0
    assert "Nothing to do: Grid is not installed." in again.stderr


@pytest.mark.parametrize("options", [["--what"], ["--from"], ["--from", "/no/such/file"], ["--purge"]])
def test_wrong_use_is_refused(tmp_path: Path, options: list[str]) -> None:
    done = install(tmp_path / "root", *options)
    assert done.returncode != 0
    assert not list((tmp_path / "root").rglob("*"))


# what is installed


def test_the_default_configuration_is_the_commented_one_and_is_right() -> None:
    assert (FILES / "etc/grid/grid.toml").read_bytes() == (HERE / "config/grid.toml").read_bytes()
    assert composition.load(FILES / "etc/grid/grid.toml").state.dir == Path("/var/lib/grid/my-house")


def settings(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if line and line[0] not in "#["]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_is_exposed_by_2_0_at_most(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Overall exposure level for \S+: [12]\.\d OK", done.stdout)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS:  # the program itself is not installed here
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/grid/current/bin/grid", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "grid" in line]
    assert (done.returncode, ours) == (0, [])


def test_devices_that_can_come_later_are_known_to_the_kernel_before() -> None:
    """systemd looks DeviceAllow up once, when the service starts: a name that no module has registered stays closed."""
    allowed = {value for key, value in settings(FILES / "usr/lib/systemd/system/grid.service") if key == "DeviceAllow"}
    modules = (FILES / "usr/lib/modules-load.d/grid.conf").read_text().split()
    assert {"char-ttyUSB rw", "char-ttyACM rw"} <= allowed
    assert {"usbserial", "cdc_acm"} <= set(modules)


def test_what_one_unit_does_not_allow_the_agent_needs() -> None:
    agent, broker = (dict(settings(FILES / f"usr/lib/systemd/system/{name}.service")) for name in ("grid", "grid-mosquitto"))
    assert agent["User"] == broker["User"]  # it signals it
    assert "PrivateUsers" not in agent.keys() | broker.keys()  # in another user namespace it is not seen in /proc
    assert "ProtectClock" not in agent  # adjtimex tells whether the clock is right
    assert "clock_adjtime" in agent["SystemCallFilter"]
    assert "network-online" not in agent["After"] + broker["After"]
    told = dict(pair.split("=") for pair in agent["Environment"].split())["GRID_BROKER"]
    assert told in broker["ExecStartPre"]
    assert told in broker["ExecStart"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("systemd-sysusers"), reason="needs root and systemd-sysusers")
def test_the_user_has_no_login_and_both_groups(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("dialout:x:20:\n")
    command = ["systemd-sysusers", f"--root={tmp_path}", str(FILES / "usr/lib/sysusers.d/grid.conf")]
    subprocess.run(command, capture_output=True, check=True)
    (user,) = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("grid:")]
    assert user[5:] == ["/var/lib/grid", "/usr/sbin/nologin"]
    groups = {line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert groups == {"dialout": "grid", "gpio": "grid", "grid": ""}


def rules() -> Iterator[list[str]]:
    for line in (FILES / "usr/lib/udev/rules.d/61-grid.rules").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split(", ")


def test_every_part_of_a_udev_rule_is_a_match_or_an_assignment() -> None:
    parts = [part for rule in rules() for part in rule]
    assert [part for part in parts if not re.fullmatch(r'[A-Z]+(\{[A-Z_]+\})?(==|\+=|=)"[^"]+"', part)] == []
    assert 'SYMLINK+="grid/meter-$env{ID_SERIAL_SHORT}"' in parts
    assert len(list(rules())) == 2
