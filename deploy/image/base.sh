#!/usr/bin/env bash
# The base of the image, Debian for arm64; needs root. build.sh calls it and caches what it makes:
#   base.sh debian OUT.tar    the packages of packages.txt; their scripts run under emulation, the slowest are put off
#   base.sh finish ROOT       what was put off, for the tree unpacked in ROOT, with this machine's own tools where that is possible
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Pointer authentication makes emulated Python 4 times slower, Perl 18 times: this processor has none.
export SOURCE_DATE_EPOCH=1760000000 QEMU_CPU=cortex-a53 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PYTHONHASHSEED=0
SLOW="/usr/sbin/depmod /usr/bin/systemd-hwdb /usr/sbin/update-ca-certificates /usr/bin/ssh-keygen"

debian() {
    local filters=() path packages
    for path in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' '/usr/share/info/*' '/usr/share/bug/*' '/usr/share/lintian/*' \
        '/usr/lib/linux-image-*/*' '/usr/lib/modules/*/kernel/drivers/'{gpu,media,infiniband,isdn,scsi,ata,nvme,staging,iio,mtd}'/*' \
        '/usr/lib/modules/*/kernel/sound/*' '/usr/lib/modules/*/kernel/drivers/net/ethernet/*' \
        '/usr/lib/modules/*/kernel/fs/'{btrfs,xfs,ocfs2,gfs2,f2fs,jfs,bcachefs,ceph,smb,nfsd,nilfs2,reiserfs,ubifs,ntfs3}'/*' \
        '/usr/lib/firmware/brcm/*'; do
        filters+=(--dpkgopt="path-exclude=$path")
    done
    for path in '/usr/share/doc/*/copyright' '/usr/lib/linux-image-*/broadcom/*' '/usr/lib/firmware/brcm/brcmfmac434*' \
        '/usr/lib/modules/*/kernel/drivers/net/ethernet/'{broadcom,microchip}'/*' \
        '/usr/lib/modules/*/kernel/drivers/scsi/'{scsi_mod,scsi_common,sd_mod}'.ko*'; do
        filters+=(--dpkgopt="path-include=$path")
    done
    packages=$(grep -v '^#' "$here/packages.txt" | paste -sd,)
    # INITRD=No: the one initramfs is made at the end
    INITRD=No mmdebstrap --architectures=arm64 --variant=minbase --format=tar --components=main,non-free-firmware \
        --include="$packages" --dpkgopt=force-unsafe-io "${filters[@]}" \
        --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --essential-hook="'$here/base.sh' --essential \"\$1\"" --customize-hook="'$here/base.sh' --customize \"\$1\"" \
        "${GRID_SUITE:-trixie}" "$1"
}

essential() { # before the packages beyond the essential ones
    local tool
    mkdir -p "$1/boot/firmware"
    for tool in $SLOW; do
        dpkg-divert --quiet --root "$1" --local --divert "$tool.later" --rename --add "$tool"
        mkdir -p "$1${tool%/*}"
        printf '#!/bin/sh\nexit 0\n' >"$1$tool"
        chmod 755 "$1$tool"
    done
}

customize() { # when all packages are configured
    local tool
    for tool in $SLOW; do
        rm -f "$1$tool"
        dpkg-divert --quiet --root "$1" --local --rename --remove "$tool"
    done
    chroot "$1" dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' >"$1/packages"
    # Python's headers, to build lgpio with: no part of the image
    chroot "$1" sh -c 'cd /tmp && apt-get -qq download libpython3.13-dev'
    dpkg-deb -x "$1"/tmp/libpython3.13-dev_*.deb "$1/build" && rm "$1"/tmp/*.deb
    rm -rf "$1"/build/usr/{lib,share}
}

finish() {
    local kernel module
    kernel=$(ls "$1/usr/lib/modules")
    depmod -b "$1" "$kernel"
    find "$1/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs -d '\n' cat >"$1/etc/ssl/certs/ca-certificates.crt"
    install -m 755 "$here/initramfs/grid-overlay" "$1/etc/initramfs-tools/scripts/init-bottom/grid-overlay"
    grep -v '^#' "$here/initramfs/modules" | while read -r module; do # what is missing there, mkinitramfs would pass over
        modprobe -d "$1" -S "$kernel" --show-depends "$module" >/dev/null
    done
    install -m 644 "$here/initramfs/modules" "$1/etc/initramfs-tools/modules"
    install -m 644 "$here/initramfs/grid.conf" "$1/etc/initramfs-tools/conf.d/grid"
    rm "$1/etc/initramfs/post-update.d/z50-raspi-firmware" # it would fill /boot/firmware, which root.sh does
    chroot "$1" update-initramfs -c -k "$kernel"
    # All files of the image get one time, so compiled modules must not be checked against their sources' times.
    find "$1/usr/lib/python3" "$1"/usr/lib/python3.* -name __pycache__ -prune -exec rm -r {} +
    chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|idlelib|tkinter|turtledemo|lib2to3)/' \
        /usr/lib/python3 "/usr/lib/$(readlink "$1/usr/bin/python3")"
}

case $1 in
    debian | finish) "$1" "$2" ;;
    --essential) essential "$2" ;;
    --customize) customize "$2" ;;
esac
