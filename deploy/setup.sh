# Sourced by deploy/run.sh and tests/run.sh: what both need on a fresh Debian 12/13 or Raspberry Pi OS, and how to get it.
# Leaves nothing outside the checkout but apt packages.

say() { printf '%s\n' "$*" >&2; }

# need_apt COMMAND=PACKAGE...: installs the packages of those commands that are missing.
need_apt() {
    local missing=() pair
    for pair in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

apt_install() {
    local as_root=()
    command -v apt-get >/dev/null || { say "Missing: $*. This system has no apt-get: install them by its own means and try again."; exit 1; }
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "Missing: $*. Install them as root: apt-get install $*"; exit 1; }
        as_root=(sudo)
    fi
    say "Installing $* ..."
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "$@" >/dev/null
}

# python_of_grid: the newest suitable Python's name; Grid runs on 3.11 to 3.13.
python_of_grid() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null; then
            printf '%s' "$name"
            return
        fi
    done
    say "Grid needs Python 3.11 or newer (Debian 12 or newer has it); found $(python3 --version 2>&1)."
    exit 1
}

# make_venv EXTRA: the virtualenv in .venv with Grid and an extra ("" or "[test]"), made anew only when setup.cfg changed.
make_venv() {
    local extra=$1 python stamp checkout=$PWD
    need_apt python3=python3
    python=$(python_of_grid)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    stamp=".venv/grid$extra-$(cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)"
    # a copy of the agent in the virtualenv, as plain "pip install ." leaves it, would run instead of the checkout
    if [ ! -e "$stamp" ] || [ "$(cd / && "$checkout/.venv/bin/python" -c 'import agent; print(agent.__path__[0])' 2>/dev/null)" != "$checkout/agent" ]; then
        say "Making the virtualenv (a minute or two, once) ..."
        .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e ".$extra"
        rm -f .venv/grid"$extra"-*
        : >"$stamp"
    fi
}
