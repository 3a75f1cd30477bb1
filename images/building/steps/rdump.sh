#!/bin/sh
# rdump.sh FILES FOLDER OUT: a folder of the ext4 file system FILES, whole, as a folder in OUT.
set -eu
said=$(debugfs -R "rdump $2 $3" "$1" 2>&1) || { echo "$said" >&2 && exit 1; }
# It ends with 0 whatever it could not read or write, and only says so.
said=$(echo "$said" | grep -v '^debugfs [0-9]' | sort -u)
[ -z "$said" ] || { echo "$said" >&2 && exit 1; }
