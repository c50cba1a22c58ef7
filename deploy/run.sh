#!/usr/bin/env bash
# Set up what is missing and run the sample network in the foreground: deploy/run.sh [options of 'grid demo'].
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/setup.sh
need_apt mosquitto=mosquitto mosquitto_sub=mosquitto-clients
make_venv ""
exec .venv/bin/grid demo "$@"
