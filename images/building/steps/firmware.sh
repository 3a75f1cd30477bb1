#!/bin/sh
# firmware.sh CARD OUT: what the firmware of a board would start, taken from the card's boot
# partition.
set -eu
slot=$(sh "$(dirname "$0")/slot.sh" "$1")
start=$(sfdisk -l -q -o Start "$1" | sed -n 2p | tr -d ' ')
mcopy -snoi "$1@@$((start * 512))" "::$slot/*" "$2"
