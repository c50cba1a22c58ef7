# Sourced by build.sh: makes of the unpacked base the three trees that are the card.
# shellcheck shell=bash disable=SC2154
export SOURCE_DATE_EPOCH=1760000000 # of wheels, and of the day in /etc/shadow on which a user was made

# fill_root ROOT BOOT DATA WHEELS STAGE
fill_root() {
    local root=$1 boot=$2 data=$3
    agent_into "$root" "$4" "$5"
    system_into "$root"
    boot_from "$root" "$boot"
    data_for "$root" "$data"
    strip_root "$root"
}

agent_into() { # ROOT WHEELS STAGE: this checkout as a virtualenv in /opt/grid, as agent/versions.py makes them
    local root=$1 wheels=$2 stage=$3 parts name python env part
    mkdir -p "$stage"
    parts=$(cd "$checkout" && "$GRID_PIP" -c 'from agent.versions import PARTS; print(*PARTS)')
    for part in $parts; do
        cp -r "$checkout/$part" "$stage/"
    done
    find "$stage" -name __pycache__ -prune -exec rm -r {} +
    name=$(cd "$stage" && "$GRID_PIP" -c 'import pathlib; from agent.versions import name_of; print(name_of(pathlib.Path(".")))')
    python=$(readlink "$root/usr/bin/python3")
    env=$root/opt/grid/$name
    mkdir -p "$env/bin" "$env/lib/$python"
    ln -s "lib" "$env/lib64"
    ln -s /usr/bin/python3 "$env/bin/python3"
    ln -s python3 "$env/bin/python"
    ln -s python3 "$env/bin/$python"
    printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "${python#python}" >"$env/pyvenv.cfg"
    cp -r "$wheels/site" "$env/lib/$python/site-packages"
    "$GRID_PIP" -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation \
        --wheel-dir "$stage/wheel" "$stage"
    "$GRID_PIP" -m zipfile -e "$stage"/wheel/*.whl "$stage/package"
    # before it is put beside the others: only this is new at each build
    PYTHONHASHSEED=0 qemu-aarch64-static -L "$root" -cpu cortex-a53 "$root/usr/bin/$python" -m compileall -q \
        --invalidation-mode unchecked-hash -s "$stage/package" -p site-packages "$stage/package"
    cp -r "$stage"/package/. "$env/lib/$python/site-packages/"
    cat >"$env/bin/grid" <<END
#!/opt/grid/$name/bin/python
import sys

from agent.__main__ import main

sys.exit(main())
END
    chmod 755 "$env/bin/grid"
    : >"$env/grid-is-complete"
    ln -s "$name" "$root/opt/grid/current"
    ln -s /opt/grid/current/bin/grid "$root/usr/local/bin/grid"
    mkdir -p "$root/usr/share/grid"
    cp -r "$wheels/wheels" "$root/usr/share/grid/wheels"
}

system_into() { # ROOT: the files, users and units
    local root=$1 tree unit
    for tree in "$checkout/deploy/files" "$here/files"; do
        # whatever umask the checkout was made under: services that are not root read these
        tar -cC "$tree" --dereference --owner=0 --group=0 --mode=u=rwX,go=rX . | tar -xC "$root" --no-overwrite-dir
    done
    mkdir -p "$root/usr/share/grid"
    # a card talks to nobody before its owner says to whom
    sed 's/^#closed = false /closed = true   /' "$root/etc/grid/grid.toml" >"$root/usr/share/grid/grid.toml"
    grep -q '^closed = true' "$root/usr/share/grid/grid.toml"
    rm "$root/etc/grid/grid.toml"
    rmdir "$root/etc/grid"
    ln -s /data/boot/config "$root/etc/grid"
    systemd-sysusers --root="$root" >/dev/null 2>&1
    sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow"
    printf 'grid\n' >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 grid\n::1 localhost ip6-localhost\n' >"$root/etc/hosts"
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.service # what packages switched on by themselves
    systemctl --quiet --root="$root" set-default multi-user.target
    systemctl --quiet --root="$root" enable systemd-networkd systemd-resolved systemd-timesyncd fstrim.timer ssh iwd \
        grid grid-mosquitto grid-boot grid-time grid-grow grid-wifi.timer 2>/dev/null
    for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
        sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-logind.service getty@tty1.service mosquitto.service \
        e2scrub_reap.service modprobe@drm.service systemd-networkd-wait-online.service systemd-pstore.service systemd-random-seed.service \
        systemd-machine-id-commit.service ldconfig.service systemd-sysext.socket systemd-rfkill.socket systemd-rfkill.service \
        systemd-networkd-persistent-storage.service systemd-journal-flush.service; do
        ln -sfn /dev/null "$root/etc/systemd/system/$unit"
    done
    mkdir -p "$root/data" "$root/boot/firmware" "$root/var/lib/grid" "$root/var/lib/systemd/timesync" "$root/var/lib/iwd"
}

boot_from() { # ROOT BOOT: firmware, kernel and what the user edits
    local root=$1 boot=$2 kernel
    kernel=$(ls "$root/usr/lib/modules")
    mkdir -p "$boot/overlays"
    cp "$root"/usr/lib/raspi-firmware/{bootcode.bin,start.elf,start4.elf,fixup.dat,fixup4.dat} "$boot/"
    cp "$root"/usr/lib/linux-image-*/broadcom/bcm2{711,837}-rpi-*.dtb "$boot/"
    cp "$root/boot/vmlinuz-$kernel" "$boot/vmlinuz"
    cp "$root/boot/initrd.img-$kernel" "$boot/initrd.img"
    cp "$here"/boot/{config.txt,cmdline.txt,wifi.toml} "$boot/"
    sed 's/$/\r/' "$here/boot/README.txt" >"$boot/README.txt"
    cp "$root/usr/share/grid/grid.toml" "$boot/grid.toml"
}

data_for() { # ROOT DATA: empty places with their owners
    local root=$1 data=$2
    mkdir -p "$data"/{boot,grid,timesync,ssh,opt/upper,opt/work}
    chmod 750 "$data/grid"
    chmod 700 "$data/ssh"
    owner() { awk -F: -v name="$1" '$1 == name {print $3 ":" $4}' "$root/etc/passwd"; }
    chown "$(owner grid)" "$data/grid"
    chown "$(owner systemd-timesync)" "$data/timesync"
}

strip_root() { # ROOT: what differs from build to build, or is not needed at run time
    local root=${1:?}
    rm -rf "${root:?}"/{build,packages} "${root:?}"/boot/* "${root:?}"/initrd.img* "${root:?}"/vmlinuz* "${root:?}"/var/lib/apt/lists/* "${root:?}"/var/cache/* \
        "${root:?}"/var/log/* "${root:?}"/etc/ssh/ssh_host_* "${root:?}"/usr/lib/raspi-firmware "${root:?}"/usr/lib/linux-image-* "${root:?}"/usr/lib/udev/hwdb.d \
        "${root:?}"/usr/lib/udev/hwdb.bin "${root:?}"/etc/udev/hwdb.bin "${root:?}"/usr/lib/binfmt.d/* "${root:?}"/var/lib/dbus/machine-id \
        "${root:?}"/usr/lib/systemd/system-generators/systemd-ssh-generator "${root:?}"/var/backups/* "${root:?}"/etc/*- "${root:?}"/tmp/* "${root:?}"/dev/*
    mkdir -p "$root/boot/firmware"
    : >"$root/etc/machine-id"
    # nothing to rebuild at a start (ConditionNeedsUpdate=)
    touch "$root/etc/.updated" "$root/var/.updated"
}
