"""What the tests of grid meter share."""

import json
import signal
import subprocess
from contextlib import contextmanager

from live import GRID, cli

NODE = '[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n'


@contextmanager
def simulating(*words):
    """(place, the printed lines) of a running `grid meter simulate`."""
    with subprocess.Popen(
        [*GRID, "meter", "simulate", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = []
        try:
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if line.startswith("ready"):
                    break
            assert said, process.stderr.read()
            yield said[0].rpartition(" ")[2], said
        finally:
            process.send_signal(signal.SIGINT)
            assert (process.wait(20), process.stderr.read()) == (0, "")


def block_of(lines):
    """The [[meter]] among printed lines, to be pasted."""
    start = lines.index("[[meter]]")
    return "\n".join(lines[start : start + 8 if lines[start + 6 : start + 8] else None]).partition("\nready")[0]


def written(tmp_path, lines):
    path = tmp_path / "grid.toml"
    path.write_text(NODE + block_of(lines) + "\n")
    return str(path)


# simulate


def decoded(kind, data, tmp_path, stdin=False):
    if stdin:
        done = subprocess.run([*GRID, "meter", "decode", kind, "-"], input=data, capture_output=True, timeout=30, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()
    file = tmp_path / "capture.bin"
    file.write_bytes(data)
    done = cli("meter", "decode", kind, str(file))
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr
