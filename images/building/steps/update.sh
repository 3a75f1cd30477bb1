#!/bin/sh
# update.sh CARD OUT: what an update brings: the system of a card, and what its firmware starts.
set -eu
mkdir "$2/boot"
sh "$(dirname "$0")/firmware.sh" "$1" "$2/boot"
number=2
slot=$(sh "$(dirname "$0")/slot.sh" "$1")
[ "$slot" = A ] || number=3
sfdisk -l -q -o Start,Sectors "$1" | sed -n $((number + 1))p | {
    read -r start sectors
    dd if="$1" of="$2/root.erofs" bs=64K iflag=skip_bytes,count_bytes status=none \
        skip=$((start * 512)) count=$((sectors * 512))
}
# A partition has room for more.
blocks=$(dump.erofs -s "$2/root.erofs" | sed -nE 's/^Filesystem blocks: +([0-9]+).*/\1/p')
size=$(dump.erofs -s "$2/root.erofs" | sed -nE 's/^Filesystem blocksize: +([0-9]+).*/\1/p')
if [ "$(stat -c %s "$2/root.erofs")" -lt $((blocks * size)) ]; then
    echo "the card ends inside its system: it was cut short" >&2
    exit 1
fi
truncate -s $((blocks * size)) "$2/root.erofs"
