"""A pretend Grid for the tests of installing and upgrading: a small wheel of a version that behaves as told."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

AGENT = """
import json, os, pathlib, sys, time
what, temper = sys.argv[1], "{temper}"
alive = pathlib.Path(sys.argv[-1]).parent / "alive"
if what == "run":
    if temper == "crashes":
        sys.exit(1)
    alive.write_text(str(os.getpid()))
    time.sleep(0.3 if temper == "falls" else 600)
if what == "check" and temper == "refuses":
    print("grid.toml:3: node.id: too long", file=sys.stderr)
    sys.exit(1)
if what == "status":
    if temper == "mute" or not alive.exists() or not os.path.exists("/proc/" + alive.read_text()):
        sys.exit(3)
    print(json.dumps({{"connected": temper != "alone"}}))
    sys.exit(3 if temper == "alone" else 0)
if what == "--help" and temper == "broken":
    import nothing_of_this_name
"""


def wheel(folder: Path, version: str, temper: str = "fine") -> Path:
    """A wheel whose agent is fine, alone (no broker), mute, crashes, falls (a moment later), refuses (the file) or broken."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"grid_edge_agent-{version}-py3-none-any.whl", f"grid_edge_agent-{version}.dist-info"
    files = {
        "agent/__init__.py": "",
        "agent/__main__.py": f"def main():\n    pass\n\n{AGENT.format(temper=temper)}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: grid-edge-agent\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngrid = agent.__main__:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def unpack(source: Path, env: Path) -> None:
    """A virtualenv with that wheel, without pip's seconds."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    (site,) = env.glob("lib/python*/site-packages")
    zipfile.ZipFile(source).extractall(site)
    script = env / "bin/grid"
    script.write_text(f"#!{env}/bin/python\nfrom agent.__main__ import main\nmain()\n")
    script.chmod(0o755)


SYSTEMCTL = """#!/bin/sh
# restart UNIT, show … UNIT: one agent, with whatever version is current
unset PYTHONPATH
pid=$(cat "{root}/pid" 2>/dev/null)
echo "$*" >> "{root}/asked"
case "$*" in
*restart*)
    [ ! -e "{root}/stuck" ] || exit 1
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
    rm -f "{root}/etc/grid/alive"
    setsid "{root}/opt/grid/current/bin/grid" run -c "{root}/etc/grid/grid.toml" >/dev/null 2>&1 &
    echo $! > "{root}/pid" ;;
*show*) if kill -0 "$pid" 2>/dev/null; then echo "$pid"; else echo 0; fi ;;
esac
"""


def systemctl(root: Path) -> Path:
    """A service manager of one service, whose root directory this is."""
    path = root / "systemctl"
    path.write_text(SYSTEMCTL.format(root=root))
    path.chmod(0o755)
    return path


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every file below: kind and mode, time of its last change in ns, where a link leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        if "__pycache__" not in path.parts:
            stat = path.lstat()
            found[str(path.relative_to(root))] = (stat.st_mode, stat.st_mtime_ns, os.readlink(path) if path.is_symlink() else "")
    return found
