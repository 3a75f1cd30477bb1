#!/bin/sh
# slot.sh CARD: the letter of the system that a card starts.
set -eu
start=$(sfdisk -l -q -o Start "$1" | sed -n 2p | tr -d ' ')
slot=$(mtype -i "$1@@$((start * 512))" ::config.txt | sed -nE 's,^os_prefix=([AB])/.*,\1,p')
case $slot in
    A | B) echo "$slot" ;;
    *) echo "no card of ours" >&2 && exit 1 ;;
esac
