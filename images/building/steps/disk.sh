#!/bin/sh
# disk.sh IN ROOT OUT: a card, of the root file system that root.sh has made and of models.
#
#   1 boot, FAT   what the firmware reads, a Pi's or UEFI; lucie.toml, which any computer can open
#   2 system A    read-only
#   3 system B    empty, until an update comes
#   4 data, ext4  models and conversations; takes the rest of the card at the first start
set -eu
in=$1 root=$2 out=$3
rm -rf "${out:?}"/*
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mebibytes() { echo $((($(stat -c %s "$1") + 1048575) / 1048576)); }
signature=$(sha256sum "$root/root.erofs" | cut -c1-8)
boot=192 slot=$((($(mebibytes "$root/root.erofs") * 5 / 4 + 63) / 64 * 64))

say() { echo ":: $1"; }

say disk
mkdir "$work/data"
cp -R --no-preserve=ownership "$in/data/." "$work/data"
# As lucie-settings names it.
state=$({ printf 'lucie.disk=%s\nlucie.root=2\n' "$signature" && cd "$in/boot" && sha256sum ./lucie.toml; } | sha256sum | cut -c1-16)
mkdir -m 700 "$work/data/settings"
cp -R --no-preserve=ownership "$in/tree" "$work/data/settings/tree-$state"
find "$work/data/settings/tree-$state" -type d -exec chmod 755 {} +
sh /steps/data.sh "$work/data" "$signature" "$work/data.ext4"
data=$(mebibytes "$work/data.ext4")

mkdir -p "$work/boot/A" "$work/boot/EFI/BOOT" "$work/boot/loader/entries"
cp -R "$root/boot/." "$work/boot/A"
mv "$work/boot/A"/bootcode.bin "$work/boot/A"/start*.elf "$work/boot/A"/fixup*.dat "$work/boot"
mv "$work/boot/A/systemd-bootaa64.efi" "$work/boot/EFI/BOOT/BOOTAA64.EFI"
# Of all that settings and letters do not change.
(cd "$work/boot" && find A EFI *.* -type f | LC_ALL=C sort | xargs sha256sum > SHA256SUMS)
cp "$in/boot/config.txt" "$in/boot/lucie.toml" "$work/boot"
words="$(cat "$in/boot/cmdline.txt") lucie.disk=$signature lucie.root=2"
echo "$words" > "$work/boot/A/cmdline.txt"

cp "$in/boot/loader.conf" "$work/boot/loader"
# Without "console=", Linux takes the screen and the serial port that the firmware tells of.
cat > "$work/boot/loader/entries/A.conf" <<ENTRY
title Lucie Edge
linux /A/vmlinuz
initrd /A/initrd
options $(echo "$words" | sed -E 's/console=[^ ]+ //g')
ENTRY
find "$work/boot" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mkfs.vfat --invariant -F 32 -n LUCIE -i "$signature" -C "$work/boot.fat" $((boot * 1024)) > /dev/null
# In this order, not in that in which the builder's disk lists them.
cd "$work/boot"
find * -type d | LC_ALL=C sort | sed 's,^,::,' | xargs mmd -i "$work/boot.fat"
find * -type f | LC_ALL=C sort | while read -r file; do mcopy -mi "$work/boot.fat" "$file" "::$file"; done
# What no file has come to, at its end, stays as it is on a card.
used=$(find * -type f -printf '%s\n' | awk '{ bytes += $1 + 512 } END { print int(bytes / 1048576) }')
truncate -s $((used + 8))M "$work/boot.fat"

truncate -s $((1 + boot + 2 * slot + data))M "$out/lucie.img"
sfdisk -q "$out/lucie.img" <<TABLE
label: dos
label-id: 0x$signature
start=1MiB, size=${boot}MiB, type=c, bootable
size=${slot}MiB, type=83
size=${slot}MiB, type=83
type=83
TABLE
# Zeros, too: only so are they in the block map, and take the place of what a card held before, such
# as a journal of the same file system, which Linux would replay.
put() { dd if="$1" of="$out/lucie.img" bs=1M seek="$2" conv=notrunc status=none; }
put "$work/boot.fat" 1
put "$root/root.erofs" $((1 + boot))
put "$work/data.ext4" $((1 + boot + 2 * slot))
