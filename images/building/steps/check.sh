#!/bin/sh
# check.sh CARD: what every card of ours keeps to. Says "+ NAME" or "- NAME reason" of each.
set -u
card=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

contract() {
    name=$1
    shift
    if said=$("$@" 2>&1); then echo "+ $name"; else echo "- $name $(echo "$said" | tail -n 1)"; fi
}

cut_out() { # NUMBER
    sfdisk -l -q -o Start,Sectors "$card" | sed -n "$(($1 + 1))p" | while read -r start sectors; do
        dd if="$card" of="$work/$1" bs=64K iflag=skip_bytes,count_bytes conv=sparse status=none \
            skip=$((start * 512)) count=$((sectors * 512))
    done
}

table() {
    found=$(sfdisk -l -q -o Id "$card" | tail -n +2 | tr -d ' ' | paste -sd, -)
    [ "$found" = "c,83,83,83" ] || { echo "$found" && return 1; }
    for number in 1 2 4; do cut_out "$number"; done
}
boot_system() { fsck.vfat -n "$work/1"; }
# disk.sh names the disk by what the system's hash begins with; an update brings another system.
read_only_system() {
    fsck.erofs --extract="$root" "$work/2" || return
    ! mdir -bi "$work/1" ::B > /dev/null 2>&1 || return 0
    blocks=$(od -An -tu4 -j1060 -N4 "$work/2") block=$(od -An -tu1 -j1036 -N1 "$work/2")
    [ "0x$(head -c $((blocks << block)) "$work/2" | sha256sum | cut -c1-8)" = "$(sfdisk --disk-id "$card")" ] \
        || { echo "its content has changed" && return 1; }
}
data_system() {
    e2fsck -fn "$work/4" && mkdir "$work/data" && sh "$(dirname "$0")/rdump.sh" "$work/4" / "$work/data"
}

# Those who are not root read all of it, and run what is a program.
readable() { # FILE...
    find "$@" ! -type l \( ! -perm -o=r -o -perm -u=x ! -perm -o=x \) | grep . && return 1
    return 0
}

boot_files() {
    mkdir -p "$work/boot"
    mcopy -snoi "$work/1" '::*' "$work/boot" || return
    for file in SHA256SUMS config.txt lucie.toml bootcode.bin start_cd.elf start4cd.elf fixup_cd.dat fixup4cd.dat \
        A/vmlinuz A/initrd A/cmdline.txt A/bcm2837-rpi-3-b.dtb A/bcm2837-rpi-3-b-plus.dtb \
        A/bcm2837-rpi-zero-2-w.dtb A/bcm2711-rpi-4-b.dtb A/bcm2711-rpi-400.dtb A/bcm2712-rpi-5-b.dtb; do
        [ -s "$work/boot/$file" ] || { echo "$file" && return 1; }
    done
    grep -q "lucie.disk=$(sfdisk --disk-id "$card" | cut -c3-) " "$work/boot/A/cmdline.txt" \
        || { echo cmdline.txt && return 1; }
    # An update brings others.
    [ -d "$work/boot/B" ] || (cd "$work/boot" && sha256sum --check --quiet --strict SHA256SUMS 2> /dev/null)
}

# A program of UEFI for arm64: "PE", where its header says, and the machine.
program() { # FILE
    at=$(od -An -tu4 -j60 -N4 "$1" | tr -d ' ')
    [ "$(od -An -tx1 -j"$at" -N6 "$1" | tr -d ' ')" = 5045000064aa ] || { echo "$1" && return 1; }
}

uefi() {
    cd "$work/boot" || return
    entry=loader/entries/$(sed -n 's/^default //p' loader/loader.conf)
    [ -s "$entry" ] || { echo "$entry" && return 1; }
    program EFI/BOOT/BOOTAA64.EFI && program ".$(sed -n 's/^linux //p' "$entry")" || return
    [ -s ".$(sed -n 's/^initrd //p' "$entry")" ] || { echo initrd && return 1; }
    [ "$(sed -n 's/^options //p' "$entry")" = "$(sed -E 's/console=[^ ]+ //g' A/cmdline.txt)" ] \
        || { echo "$entry" && return 1; }
}

# On a Pi 5 of the later stepping, the firmware makes of one device tree what Linux has as another.
stepping() {
    fdtoverlay -i "$work/boot/A/bcm2712-rpi-5-b.dtb" -o "$work/d0.dtb" \
        "$work/boot/A/overlays/bcm2712d0.dtbo" || return
    for tree in "$work/d0.dtb" "$work/boot/A/bcm2712-d-rpi-5-b.dtb"; do
        dtc -q -O dts "$tree" | grep -v gpio-line-names > "$tree.dts"
    done
    diff "$work/d0.dtb.dts" "$work/boot/A/bcm2712-d-rpi-5-b.dtb.dts"
}

services() {
    for unit in getty.target.wants/getty@tty1.service multi-user.target.wants/lucie-serve.service \
        multi-user.target.wants/lucie-settings.service multi-user.target.wants/lucie-trial.service \
        sysinit.target.wants/lucie-trial.timer multi-user.target.wants/lucie-take.path \
        multi-user.target.wants/lucie-grow.service multi-user.target.wants/lucie-places.service \
        multi-user.target.wants/lucie-card.service; do
        [ -h "$root/etc/systemd/system/$unit" ] || { echo "$unit" && return 1; }
    done
    for unit in ssh systemd-networkd systemd-resolved wpa_supplicant@; do # by lucie.toml
        [ -e "$root/usr/lib/systemd/system/$unit.service" ] || { echo "$unit" && return 1; }
    done
    # Sticks are plugged in while it runs.
    grep -q 'lucie-stick@%k.service' "$root/usr/lib/udev/rules.d/91-lucie-stick.rules" || { echo rules && return 1; }
    for system in fat/vfat exfat/exfat ext4/ext4; do
        grep -q "^kernel/fs/$system.ko" "$root"/usr/lib/modules/*/modules.order \
            "$root"/usr/lib/modules/*/modules.builtin || { echo "$system" && return 1; }
    done
    [ -s "$root/etc/ssh/sshd_config" ] || { echo sshd_config && return 1; }
    # Neither the chat nor the server is root's.
    [ -x "$root/usr/bin/lucie" ] || { echo lucie && return 1; }
    readable "$root/usr/bin/lucie" "$root"/usr/lib/lucie-* "$root/usr/lib/python3" || return
    systemd-analyze --root="$root" --man=no verify getty@tty1.service serial-getty@ttyS0.service \
        lucie-serve.service lucie-places.service lucie-settings.service lucie-grow.service lucie-card.service \
        lucie-class.socket lucie-class.service lucie-stick@sda1.service lucie-take.path lucie-take.service \
        lucie-trial.service lucie-trial.timer lucie-update@sda1.service
}

passwords() {
    [ -s "$root/etc/shadow" ] || return
    cut -d: -f1,2 "$root/etc/shadow" | grep -v ':!' && return 1
    [ "$(wc -l < "$root/etc/passwd")" = "$(wc -l < "$root/etc/shadow")" ]
}

secrets() {
    [ -e "$root/etc/machine-id" ] && [ -s "$work/boot/lucie.toml" ] || return
    [ ! -s "$root/etc/machine-id" ] || { echo machine-id && return 1; }
    find "$root/etc/ssh" "$root/root" "$root/home" -name 'ssh_host_*' -o -name authorized_keys | grep . && return 1
    grep -Ev '^[[:space:]]*#' "$work/boot/lucie.toml" | grep -E 'password|ssid|authorized_keys' && return 1
    [ ! -e "$work/boot/rpi-preseed.toml" ] || { echo rpi-preseed.toml && return 1; }
    # No conversation, no key of the board's own.
    kept=$(ls -A "$work/data" | paste -sd, -)
    [ "$kept" = lost+found,lucie,server,settings ] || { echo "/data: $kept" && return 1; }
    find "$work/data/lucie" ! -type d ! -path "$work/data/lucie/data/models/*" | grep . && return 1
    # What its first start lays out knows no more than lucie.toml.
    laid=$work/data/settings
    [ "$(ls "$laid" | grep -c '^tree-')" = "$(ls "$laid" | wc -l)" ] || { echo /settings && return 1; }
    find "$laid" -path '*credentials*' -o -path '*wpa_supplicant*' -o -path '*sysusers*' | grep . && return 1
    return 0
}

model() {
    models=$work/data/lucie/data/models
    used=$(sed -n 's/^LUCIE_MODEL=//p' "$work/data/server/model")
    [ -s "$models/$used/manifest.json" ] || { echo "$used" && return 1; }
    readable "$models" || return
    python3 - "$models" <<'PYTHON'
import hashlib, json, pathlib, sys

for manifest in pathlib.Path(sys.argv[1]).glob("*/manifest.json"):
    for name, file in json.loads(manifest.read_text())["files"].items():
        with (manifest.parent / name).open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file["sha256"]:
                sys.exit(f"{manifest.parent.name}/{name}")
PYTHON
}

licences() {
    for package in bash busybox-static libc6 linux-base python3-minimal raspi-firmware systemd systemd-boot-efi; do
        [ -e "$root/usr/share/doc/$package/copyright" ] || { echo "$package" && return 1; }
    done
}

contract table table
contract boot-system boot_system
contract read-only-system read_only_system
contract data-system data_system
contract boot-files boot_files
contract stepping stepping
contract uefi uefi
contract services services
contract passwords passwords
contract secrets secrets
contract model model
contract licences licences
