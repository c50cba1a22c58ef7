#!/usr/bin/env bash
# Install what the tests need and run them: tests/run.sh [options of pytest]. With options only pytest runs.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/setup.sh
need_apt mosquitto=mosquitto mosquitto_sub=mosquitto-clients ip=iproute2 mbpoll=mbpoll
make_venv "[test]"
bin=.venv/bin
if [ $# -eq 0 ]; then
    say "ruff ..."
    $bin/ruff format --check --quiet .
    $bin/ruff check --quiet .
    say "mypy ..."
    $bin/mypy --no-error-summary
    say "pytest, three files at a time ..."  # most of the time they wait for brokers and agents
    set -- -n 3 --dist loadfile --no-loadscope-reorder  # long files are in the middle of the alphabet: no worker waits at the end
fi
exec $bin/python -m pytest "$@"
