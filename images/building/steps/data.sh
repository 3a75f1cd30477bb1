#!/bin/sh
# data.sh FOLDER SIGNATURE OUT: the data partition of a card with that signature, as a file system
# of what is in FOLDER.
set -eu
folder=$1 signature=$2 out=$3
# Beside files there are inodes, 1.6 %, the journal, 16 MiB, and room for what it grows to, up to 36.
files=$(du -sm --apparent-size "$folder" | cut -f1)
size=$((files + files / 50 + 64))
# Whatever modes they have where the card is built.
chmod -R u=rwX,go=rX "$folder/lucie" "$folder/server"
chown -R 800:800 "$folder/lucie"
# Models are read by the server that they are hostile to.
chown -R 0:0 "$folder/lucie/data/models"
find "$folder" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mke2fs -q -t ext4 -m 0 -J size=16 -L lucie-data -d "$folder" -U "$signature-0000-4000-8000-000000000000" \
    -E "hash_seed=$signature-0000-4000-8000-000000000000,lazy_itable_init=0,lazy_journal_init=0" \
    "$out" "${size}M"
