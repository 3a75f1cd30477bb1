#!/bin/sh
# publish.sh OUT NAME: what is handed on of OUT/lucie.img, under that name.
set -eu
cd "$1"
say() { echo ":: $1"; }

mv lucie.img "$2.img"
say map
bmaptool -q create -o "$2.img.bmap" "$2.img"
say archive
# In blocks, however many cores there are (xz 5.4 and later): the same bytes on every computer.
xz -T0 -6 -c "$2.img" > "$2.img.xz"
zstd -q -T0 -10 "$2.img" -o "$2.img.zst"
