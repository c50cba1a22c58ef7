#!/usr/bin/env bash
# Build the image for a Raspberry Pi's card, on Debian 12 or 13, as root: deploy/image/build.sh [--out DIR] [--cache DIR] [--fresh]
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
. "$checkout/deploy/setup.sh"

usage() {
    cat <<'END'
sudo deploy/image/build.sh [--out DIR] [--cache DIR] [--fresh]
  --out DIR    where grid-VERSION-arm64.img.xz, .sha256 and .packages go (deploy/image/out)
  --cache DIR  what a next build takes over: Debian's packages, wheels (~/.cache/grid-image)
  --fresh      use nothing of the cache: today's packages
  --no-pack    leave the image as it is, grid-VERSION-arm64.img
END
}

out=$here/out cache=${XDG_CACHE_HOME:-$HOME/.cache}/grid-image fresh="" pack=1
while [ $# -gt 0 ]; do
    case $1 in
        --out | --cache)
            [ $# -ge 2 ] || { usage >&2 && exit 2; }
            mkdir -p "$2"
            if [ "$1" = --out ]; then out=$(realpath "$2"); else cache=$(realpath "$2"); fi
            shift
            ;;
        --fresh) fresh=1 ;;
        --no-pack) pack="" ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || { say "This needs root, to give files of the image their owners: sudo $0"; exit 1; }
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C.UTF-8

stage() { say "$(printf '%4d s  ' "$SECONDS")$*"; }
key() { cat "$@" | sha256sum | cut -c1-12; }

emulation() { # what runs the packages' own scripts; a new machine's kernel may not yet know of it
    [ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || true
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64 || true
    arch-test arm64 >/dev/null || { say "arm64 programs do not run here: binfmt_misc is not to be had in this container?"; exit 1; }
}

stage "tools"
need_apt mmdebstrap=mmdebstrap arch-test=arch-test qemu-aarch64-static=qemu-user-static update-binfmts=binfmt-support depmod=kmod \
    mcopy=mtools mkfs.vfat=dosfstools mkfs.erofs=erofs-utils sfdisk=fdisk mke2fs=e2fsprogs xz=xz-utils swig=swig \
    aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu systemctl=systemd python3=python3
[ -e /usr/aarch64-linux-gnu/include/stdio.h ] || apt_install libc6-dev-arm64-cross
mkdir -p "$out" "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another build uses $cache"; exit 1; }
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

debian=$cache/debian-$(key "$here/packages.txt" <(sed '/^finish()/,$d' "$here/base.sh")).tar
[ -z "$fresh" ] || rm -rf "$debian" "$cache"/base-* "$cache"/wheels-* "$cache/tools"
if [ ! -e "$debian" ]; then
    stage "Debian's packages: 5 to 10 minutes, once ($debian)"
    emulation
    rm -f "$cache"/debian-*
    "$here/base.sh" debian "$work/debian.tar" >"$cache/debian.log" 2>&1 || { tail -20 "$cache/debian.log" >&2; exit 1; }
    mv "$work/debian.tar" "$debian"
fi

base=$cache/base-$(key "$here/base.sh" "$here"/initramfs/* <(basename "$debian") <(stat -c %Y "$debian")).tar
root=$work/root
mkdir "$root"
if [ ! -e "$base" ]; then
    stage "initial ramdisk, compiled modules: 2 minutes, once"
    emulation
    tar -xf "$debian" -C "$root"
    "$here/base.sh" finish "$root" >"$cache/base.log" 2>&1 || { tail -20 "$cache/base.log" >&2; exit 1; }
    rm -f "$cache"/base-*.tar
    tar --sort=name -cf "$work/base.tar" -C "$root" .
    mv "$work/base.tar" "$base"
else
    stage "base from the cache"
    tar -xf "$base" -C "$root"
fi

export GRID_PIP=$cache/tools/bin/python PYTHONDONTWRITEBYTECODE=1
if [ ! -x "$GRID_PIP" ]; then
    python=$(python_of_grid)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    "$python" -m venv --clear "$cache/tools"
    "$GRID_PIP" -m pip --disable-pip-version-check install --quiet 'setuptools>=77' wheel
fi
wheels=$cache/wheels-$(key "$here/wheels.sh" "$here/wheel.py" "$checkout/setup.cfg" <(basename "$base"))
if [ ! -d "$wheels" ]; then
    stage "wheels"
    rm -rf "$cache"/wheels-*
    "$here/wheels.sh" "$root" "$work/wheels"
    mv "$work/wheels" "$wheels"
fi

version=$(sed -n 's/^VERSION = "\(.*\)"/\1/p' "$checkout/agent/version.py")
name=grid-$version-arm64
{ cat "$root/packages" && (cd "$wheels/wheels" && printf '%s\n' *.whl); } >"$out/$name.packages"
stage "the agent"
. "$here/root.sh"
fill_root "$root" "$work/boot" "$work/data" "$wheels" "$work/stage"

stage "image"
rm -f "$out/$name".img*
"$here/compose.sh" "$root" "$work/boot" "$work/data" "$work/$name.img"
if [ -n "$pack" ]; then
    stage "pack"
    # -T2 whatever this machine has: one thread packs into other bytes than several
    xz -T2 -0 --block-size=16MiB -c "$work/$name.img" >"$work/$name.img.xz"
    mv "$work/$name.img.xz" "$out/"
    (cd "$out" && sha256sum "$name.img.xz" >"$name.img.xz.sha256")
fi
[ -n "$pack" ] || mv "$work/$name.img" "$out/"
stage "done: $(cd "$out" && du -h --apparent-size "$name".img* | tr '\t\n' '  ')in $out"
