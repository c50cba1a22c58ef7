#!/usr/bin/env bash
# compose.sh ROOT BOOT DATA OUT.img: a card from three trees, without loop devices or mounts, of the same bytes each time.
#   p1 FAT    BOOT: firmware, kernel, the files that a user edits
#   p2 erofs  ROOT, read-only; a tmpfs over it (initramfs/grid-overlay)
#   p3 ext4   DATA: what lasts; grows to the card's end at the first start
set -euo pipefail
root=$1 boot=$2 data=$3 out=$4

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1760000000} TZ=UTC LC_ALL=C MTOOLS_SKIP_CHECK=1 PATH=$PATH:/usr/sbin:/sbin
export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
DISK=47524944 # "GRID": /etc/fstab and cmdline.txt find the partitions by it
MIB=2048      # sectors of 512 bytes
boot_mib=${BOOT_MIB:-128} data_mib=${DATA_MIB:-128}

find "$root" "$boot" "$data" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rm -f "$out" "$out.root"
mkfs.erofs -zlz4hc -T"$SOURCE_DATE_EPOCH" -U"$DISK-0000-4000-8000-000000000002" "$out.root" "$root" >/dev/null
root_mib=$(($(stat -c %s "$out.root") / 1048576 + 1))

s1=$((8 * MIB)) n1=$((boot_mib * MIB))
s2=$((s1 + n1)) n2=$((root_mib * MIB))
s3=$((s2 + n2)) n3=$((data_mib * MIB))
truncate -s $(((s3 + n3) * 512)) "$out"
sfdisk -q "$out" <<END
label: dos
label-id: 0x$DISK
unit: sectors
start=$s1, size=$n1, type=c, bootable
start=$s2, size=$n2, type=83
start=$s3, size=$n3, type=83
END

mkfs.vfat -F 32 -s 1 -n GRIDBOOT -i "$DISK" --invariant --offset "$s1" "$out" $((n1 / 2)) >/dev/null 2>&1
(cd "$boot" && find . -mindepth 1 -maxdepth 1 | sort | while read -r file; do mcopy -s -m -Q -i "$out@@$((s1 * 512))" "$file" ::; done)
dd if="$out.root" of="$out" bs=1M seek=$((s2 / MIB)) conv=notrunc,sparse status=none
rm "$out.root"
mke2fs -q -F -t ext4 -L GRIDDATA -U "$DISK-0000-4000-8000-000000000003" -m 0 -d "$data" \
    -E "offset=$((s3 * 512)),hash_seed=$DISK-0000-4000-8000-000000000004,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$out" $((n3 / 2))k 2>/dev/null
# mke2fs takes over the files' ctime, which is the time of the touch above
(cd "$data" && find . | sort | sed "s,^\.$,./,; s,^\.\(.*\),set_inode_field \1 ctime @$SOURCE_DATE_EPOCH,") |
    debugfs -w -f - "$out?offset=$((s3 * 512))" >/dev/null 2>&1
