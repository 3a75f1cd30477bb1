#!/bin/sh
# add.sh CARD IN WORK: one more model for the card CARD, laid into its data partition, which is made
# anew: IN/data has what comes to it. The rest of the card stays as it is. The folder WORK, which is
# empty, has room for the data partition twice.
set -eu
card=$1 in=$2 work=$3

say() { echo ":: $1"; }

say read
found=$(sfdisk -l -q -o Id "$card" | tail -n +2 | tr -d ' ' | paste -sd, -)
[ "$found" = "c,83,83,83" ] || { echo "no card of ours: $found" && exit 1; }
signature=$(sfdisk --disk-id "$card" | cut -c3-)
start=$(sfdisk -l -q -o Start "$card" | sed -n 5p | tr -d ' ')
dd if="$card" of="$work/before.ext4" bs=1M iflag=skip_bytes conv=sparse status=none skip=$((start * 512))
e2fsck -fn "$work/before.ext4"
mkdir "$work/data"
sh "$(dirname "$0")/rdump.sh" "$work/before.ext4" / "$work/data"
rm -r "$work/data/lost+found" "$work/before.ext4"

say disk
for model in "$in"/data/lucie/data/models/*; do
    [ ! -e "$work/data/lucie/data/models/${model##*/}" ] || { echo "${model##*/} is there already" && exit 1; }
done
cp -R --no-preserve=ownership "$in/data/." "$work/data"
sh /steps/data.sh "$work/data" "$signature" "$work/data.ext4"
e2fsck -fn "$work/data.ext4"
size=$(stat -c %s "$work/data.ext4")
truncate -s $((start * 512)) "$card"
truncate -s $((start * 512 + size)) "$card"
echo ', +' | sfdisk -q -N 4 "$card"
dd if="$work/data.ext4" of="$card" bs=1M oflag=seek_bytes seek=$((start * 512)) conv=notrunc status=none
