#!/bin/sh
# firmware.sh CARD OUT: what the firmware of a board would start, taken from the card's boot
# partition.
set -eu
start=$(sfdisk -l -q -o Start "$1" | sed -n 2p | tr -d ' ')
fat=$1@@$((start * 512))
slot=$(mtype -i "$fat" ::config.txt | sed -nE 's,^os_prefix=([AB])/.*,\1,p')
mcopy -snoi "$fat" "::$slot/*" "$2"
