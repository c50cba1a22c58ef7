#!/usr/bin/env bash
# Boot the image in QEMU, join two, pull their plugs: deploy/image/boot_test.sh [--help]. Takes about three hours; not in tests/run.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/setup.sh
need_apt qemu-system-aarch64=qemu-system-arm mosquitto=mosquitto mosquitto_sub=mosquitto-clients mcopy=mtools xz=xz-utils ssh-keygen=openssh-client fdtput=device-tree-compiler
make_venv ""
export PYTHONDONTWRITEBYTECODE=1
exec .venv/bin/python deploy/image/boot_test.py "$@"
