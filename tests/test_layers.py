"""The four layering rules, by the standard library's ast and one fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AGENT = [
    "accounts",
    "address",
    "admit",
    "asks",
    "audit",
    "balance",
    "broker_conf",
    "bucket",
    "bundle",
    "certs",
    "cuts",
    "decode",
    "dispatch",
    "edges",
    "energy",
    "events",
    "follow",
    "gone",
    "growth",
    "doubt",
    "guards",
    "hear",
    "isle",
    "kept",
    "life",
    "loads",
    "local",
    "mend",
    "net",
    "node",
    "offer",
    "own",
    "price",
    "records",
    "refute",
    "renewal",
    "retold",
    "settlement",
    "show",
    "siblings",
    "slots",
    "steer",
    "summary",
    "switches",
    "tariffs",
    "trust",
    "upkeep",
    "wants",
    "wire",
    "zone",
]
DRIVERS = [
    "curves",
    "faults",
    "mapfile",
    "maptables",
    "p1",
    "plausible",
    "pretend",
    "pulse",
    "reading",
    "registers",
    "setpoint",
    "sml",
    "sml_list",
    "sml_wire",
    "sunspec",
    "sunspec_image",
    "sunspec_models",
    "tic",
    "wiring",
]
CORE = [*(f"agent/{name}.py" for name in AGENT), *(f"drivers/{name}.py" for name in DRIVERS)]
PURE = frozenset(
    {
        "__future__",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "hashlib",
    }
    | {"ipaddress", "itertools", "math", "re", "string", "struct", "tomllib", "typing"}
)
CORE_MODULES = frozenset(name.removesuffix(".py").replace("/", ".") for name in CORE)
# what reads a clock in modules that are otherwise pure
IMPURE = frozenset({("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")})
HOMES = {
    "paho": {"agent/bus.py"},
    "pymodbus": {"drivers/modbus.py", "drivers/simulated.py"},
    "serial": {"drivers/stream.py"},
    "gpiozero": {"drivers/gpio.py"},
    "lgpio": {"drivers/gpio.py"},
    "cryptography": {"agent/seal.py", "agent/notary.py"},
    "click": {"agent/cli/"},
    "segno": {"agent/cli/"},
    "scipy": {"agent/simulate/"},
    "numpy": {"agent/simulate/"},
    "matplotlib": {"agent/simulate/"},
    "sqlite3": {"agent/ledger.py"},
}
FILES = sorted(str(path.relative_to(ROOT)) for room in ("agent", "drivers") for path in (ROOT / room).rglob("*.py"))


def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


def imports(name: str) -> set[str]:
    """Every module that a file names in an import, wherever in it; `from agent import wire` names agent.wire."""
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                inside = module in ("agent", "drivers", "random")
                found |= {f"{module}.{alias.name}" for alias in node.names} if inside else {module}
            case ast.ImportFrom():
                found.add("relative")
            case _:
                pass
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_only_itself_the_codec_and_what_is_pure(name):
    foreign = {module for module in imports(name) - CORE_MODULES if module.partition(".")[0] not in PURE}
    assert foreign <= {"msgspec", "random.Random"}  # chance only from a seed


@pytest.mark.parametrize("name", CORE)
def test_the_core_reads_no_clock_opens_nothing_and_prints_nothing(name):
    for node in ast.walk(tree(name)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=what):
                assert (owner, what) not in IMPURE
            case ast.Call(func=ast.Name(id=called)):
                assert called not in {"open", "print", "input", "exec", "eval", "__import__"}
            case _:
                pass


@pytest.mark.parametrize("name", [name for name in CORE if name.startswith("agent/")])
def test_now_is_the_last_parameter_and_always_required(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef) and any(arg.arg == "now" for arg in (*node.args.args, *node.args.kwonlyargs)):
            required = node.args.args[: len(node.args.args) - len(node.args.defaults)]
            assert required[-1].arg == "now", f"{name}: {node.name}"


def test_the_core_loads_no_library_of_the_shells():
    foreign = ("paho", "pymodbus", "serial", "gpiozero", "cryptography", "click", "threading", "socket", "logging")
    code = f"import sys; old = set(sys.modules); import agent.node; print(sorted((set(sys.modules) - old) & set({foreign!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    users = {name for name in FILES if library in {module.partition(".")[0] for module in imports(name)}}
    strangers = {name for name in users if not any(name.startswith(home) for home in HOMES[library])}
    assert strangers == set()


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("drivers/")])
def test_drivers_never_import_agent(name):
    assert not [module for module in imports(name) if module.partition(".")[0] == "agent"]


@pytest.mark.parametrize("room", ["agent", "drivers"])
def test_a_package_says_one_line(room):
    text = (ROOT / room / "__init__.py").read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("name", FILES)
def test_no_relative_imports_and_a_first_line_that_says_what_a_file_is(name):
    assert "relative" not in imports(name)
    first, *rest = (ast.get_docstring(tree(name)) or "").splitlines()
    assert first.endswith(".")
    assert not rest or rest[0] == ""


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_caught_that_nobody_foresaw(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type
            assert caught is not None
            assert not (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))
