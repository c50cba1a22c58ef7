#!/usr/bin/env bash
# What the agent needs of others, for arm64: wheels.sh ROOT OUT, with the unpacked base in ROOT; build.sh calls and caches it.
# OUT/wheels: the wheels, for 'grid upgrade' without a network. OUT/site: the same unpacked and compiled, a virtualenv's site-packages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$1 out=$2 LGPIO=0.2.2.0
python=$(basename "$(readlink "$root/usr/bin/python3")") # python3.13
version=${python#python}
tag=cp${version/./}
export SOURCE_DATE_EPOCH=1760000000 LC_ALL=C.UTF-8 PYTHONHASHSEED=0
umask 022

rm -rf "$out" && mkdir -p "$out/wheels" "$out/build"
pip() { "$GRID_PIP" -m pip --disable-pip-version-check "$@"; }

"$GRID_PIP" - "$here/../../setup.cfg" >"$out/build/needed" <<'END'
import configparser, sys
setup = configparser.ConfigParser()
setup.read(sys.argv[1])
print(setup["options"]["install_requires"].strip())
END
pip download --quiet --dest "$out/wheels" --only-binary=:all: --python-version "$version" \
    --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --requirement "$out/build/needed"

# lgpio comes as source only (the wheel 0.0.0.2 that is also there is empty); it brings its C library
cd "$out/build"
pip download --quiet --no-deps --no-binary :all: --no-build-isolation "lgpio==$LGPIO"
tar -xzf "lgpio-$LGPIO.tar.gz" && cd "lgpio-$LGPIO"
swig -python lgpio.i
aarch64-linux-gnu-gcc -shared -fPIC -O2 -s -pthread -Wl,--build-id=none -ffile-prefix-map="$PWD"=. -ffile-prefix-map="$root"= -Isrc \
    -I"$root/build/usr/include/$python" -I"$root/build/usr/include" -o "_lgpio.$tag.so" src/lg*.c src/rgpiod.c lgpio_wrap.c -lrt -ldl -w
"$GRID_PIP" "$here/wheel.py" "$out/wheels" lgpio "$LGPIO" "$tag-$tag-linux_aarch64" lgpio.py "_lgpio.$tag.so=_lgpio.so"

cd "$out" && rm -r build
pip install --quiet --no-deps --no-compile --no-index --target site --only-binary=:all: --python-version "$version" --implementation cp \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_28_aarch64 --platform linux_aarch64 wheels/*.whl
# setuptools: colorzero asks for it and does not use it
rm -rf site/{bin,setuptools*,_distutils_hack,pkg_resources,distutils-precedence.pth}
find site -name direct_url.json -delete
# they hold the path of this cache, and so did their lines
sed -i '/\/direct_url\.json,/d; /^\.\.\/\.\.\/bin\//d' site/*.dist-info/RECORD
qemu-aarch64-static -L "$root" -cpu cortex-a53 "$root/usr/bin/$python" -m compileall -q --invalidation-mode unchecked-hash -s "$out/site" -p site-packages "$out/site"
if grep -rlF -e "$out" -e "$root" site; then
    echo "wheels.sh: the files above name the place where they were built: the image would differ from build to build" >&2
    exit 1
fi
