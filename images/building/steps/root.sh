#!/bin/sh
# root.sh IN PACKAGES OUT: the root file system of a board, and what its firmware starts, of
# Debian's packages in an archive and of what is in IN.
#
# Nothing of the board's processor is run: what the packages' scripts would set up is done by
# systemd's own tools, which take another root, or by the lines below.
set -eu
in=$1 packages=$2 out=$3
rm -rf "${out:?}"/*
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
early=$work/early
version=$(tar -tf "$packages" | sed -nE 's,^\./usr/lib/modules/([^/]+)/vmlinuz$,\1,p')
python=$root/usr/lib/python3/dist-packages

say() { echo ":: $1"; }

say unpack
mkdir -p "$root" "$out/boot"
tar -C "$root" --exclude-from="$in/leave-out" -xf "$packages"
# Whatever modes they have where the card is built.
chmod -R u=rwX,go=rX "$in/system" "$in/program"
cp -R --no-preserve=ownership "$in/system/." "$root"
mkdir -p "$python"
cp -R --no-preserve=ownership "$in/program/." "$python"

say configure
# As base-passwd and base-files do it.
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
# Nobody has a password: root neither.
sed -E 's/^([^:]+):.*/\1:!*:20000:0:99999:7:::/' "$root/etc/passwd" > "$root/etc/shadow"
sed -E 's/^([^:]+):.*/\1:*::/' "$root/etc/group" > "$root/etc/gshadow"
chown 0:42 "$root/etc/shadow" "$root/etc/gshadow"
chmod 640 "$root/etc/shadow" "$root/etc/gshadow"
cp "$root/usr/share/base-files/profile" "$root/etc/profile"
cp "$root/usr/share/openssh/sshd_config" "$root/etc/ssh"
systemd-sysusers --root="$root"
pam-auth-update --root "$root" --package --force
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
ln -sf ../usr/share/zoneinfo/Europe/Paris "$root/etc/localtime"
# An empty one: systemd makes an identity for each start, and no "first boot" of it.
: > "$root/etc/machine-id"
mkdir -p "$root/boot/firmware" "$root/data" "$root/var/lib/systemd"

# What else there is starts when lucie.toml asks for it.
systemctl --root="$root" --quiet enable getty@tty1 lucie-card lucie-grow lucie-places lucie-serve lucie-settings \
    lucie-take.path lucie-trial.service lucie-trial.timer
# What nothing here uses, and what the chat would wait for: each is a program to start.
systemctl --root="$root" --quiet mask tmp.mount dev-hugepages.mount dev-mqueue.mount run-lock.mount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service modprobe@configfs.service \
    modprobe@drm.service modprobe@fuse.service kmod-static-nodes.service systemd-journal-flush.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-tmpfiles-setup-dev-early.service \
    systemd-tmpfiles-setup-dev.service systemd-udev-load-credentials.service

depmod -b "$root" "$version"

say compile
python3 -m compileall -q -j0 --invalidation-mode=unchecked-hash -s "$root" -p / \
    "$root/usr/lib/python3.13" "$root/usr/lib/python3"

mkdir -p "$root/usr/share/keymaps"
while read -r name layout variant; do
    ckbcomp -layout "$layout" ${variant:+-variant "$variant"} 2>/dev/null \
        | gzip -n9 > "$root/usr/share/keymaps/$name.map.gz"
done < "$in/keymaps"

# Terminus, which has the letters and quotation marks of all our languages. Where the chat has the
# left half of a block, it gets a whole one. The upper and the lower half, of which QR codes are
# drawn, take the place of an arrow and a house.
cat > "$work/halves.py" <<'END'
import struct, sys
from pathlib import Path

file, letters = map(Path, sys.argv[1:])
font = bytearray(file.read_bytes())
psf2 = font[:4] == b"\x72\xb5\x4a\x86"
first, size = struct.unpack("<8xI8xI", font[:24]) if psf2 else (4, font[3])
numbers = {line.split()[1]: int(line.split()[0], 16)
           for line in letters.read_text().splitlines() if line.startswith("0x")}
glyph = {letter: slice(first + number * size, first + (number + 1) * size)
         for letter, number in numbers.items()}
block, half = font[glyph["U+2588"]], size // 2
font[glyph["U+2580"]] = block[:half] + bytes(half)
font[glyph["U+2584"]] = bytes(half) + block[half:]
file.write_bytes(font)
END
mkdir -p "$root/usr/share/consolefonts" "$root/usr/share/doc/console-setup-linux"
cp /usr/share/doc/console-setup-linux/copyright "$root/usr/share/doc/console-setup-linux"
for size in 16 24x12 32x16; do
    gzip -dc "/usr/share/consolefonts/Uni2-TerminusBold$size.psf.gz" > "$work/font"
    psfgettable "$work/font" \
        | sed 's/U+2588/U+2588 U+258c/; s/U+21d5/U+2580/; s/U+2302/U+2584/' > "$work/letters"
    python3 "$work/halves.py" "$work/font" "$work/letters"
    psfxtable -i "$work/font" -it "$work/letters" -o "$work/lettered"
    gzip -n9 < "$work/lettered" > "$root/usr/share/consolefonts/$size.psf.gz"
done

say kernel
# As it is: UEFI starts it as a program of its own, and packed it would be none.
cp "$root/usr/lib/modules/$version/vmlinuz" "$out/boot"
cp "$root/usr/lib/systemd/boot/efi/systemd-bootaa64.efi" "$out/boot"
cp "$root/usr/lib/modules/$version"/dtb/broadcom/bcm2[78]*-rpi-*.dtb "$out/boot"
# The firmware that leaves the most memory: without camera and codecs (gpu_mem=16 asks for it).
cp "$root"/usr/lib/raspi-firmware/bootcode.bin "$root"/usr/lib/raspi-firmware/*cd.* "$out/boot"
# The firmware looks for overlays below os_prefix only where it finds a README there.
mkdir "$out/boot/overlays"
cp "$in/overlays/README" "$out/boot/overlays"
for overlay in "$in"/overlays/*.dts; do
    dtc -q -@ -O dtb -o "$out/boot/overlays/$(basename "$overlay" .dts).dtbo" "$overlay"
done
rm -r "$root/usr/lib/modules/$version/vmlinuz" "$root/usr/lib/modules/$version/dtb" \
    "$root/usr/lib/raspi-firmware" "$root/usr/lib/systemd/boot"

mkdir -p "$early/bin" "$early/dev" "$early/proc" "$early/sys" "$early/root" \
    "$early/usr/lib/modules/$version"
ln -s usr/lib "$early/lib"
cp "$root/usr/bin/busybox" "$early/bin"
install -m 755 "$in/init" "$early/init"
cp "$root/usr/lib/modules/$version"/modules.order "$root/usr/lib/modules/$version"/modules.builtin* \
    "$early/usr/lib/modules/$version"
modprobe -d "$root" -S "$version" --show-depends -a $(cat "$in/modules") > "$work/modules"
sed -nE 's/^insmod ([^ ]+).*/\1/p' "$work/modules" | sort -u | while read -r module; do
    kept="$early${module#"$root"}"
    mkdir -p "${kept%/*}"
    xz -dc "$module" > "${kept%.xz}"
done
depmod -b "$early" "$version"
find "$early" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
(cd "$early" && find . | LC_ALL=C sort | cpio -oR 0:0 -H newc --reproducible --quiet) \
    | zstd -q19 > "$out/boot/initrd"

# By which settings are looked through before there is a board.
mkdir "$out/seen"
(cd "$root" && cp -R --parents etc/group etc/passwd usr/share/keymaps usr/share/zoneinfo "$out/seen")

say pack
# Nothing is left to do for a first start after an update of /usr.
touch "$root/etc/.updated" "$root/var/.updated"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mkfs.erofs -zlz4hc,12 -C65536 -Efragments,dedupe,ztailpacking -T"$SOURCE_DATE_EPOCH" \
    -U00000000-0000-0000-0000-000000000000 -L lucie --quiet "$out/root.erofs" "$root"
