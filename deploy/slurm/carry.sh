#!/bin/bash
# The courier on the login node: brings bundles from the coordinator's machine and takes replies back, by ssh. It holds no
# key of the node and need not be trusted: what it changes is refused.
#
#   COORDINATOR=carrier@fed.example.org FOLDER=/srv/sonoshare/coordinator HOSPITAL=west SHARED=/scratch/sonoshare carry.sh
set -euo pipefail
umask 077
: "${COORDINATOR:?user@host of the coordinator\'s machine}" "${FOLDER:?its folder there}"
: "${HOSPITAL:?id of this hospital}" "${SHARED:?the folder that the job sees, too}"
mkdir -p "$SHARED/in" "$SHARED/out" "$SHARED/done" "$SHARED/sent"
while true; do
    # shellcheck disable=SC2029  # the folder is named here
    for path in $(ssh "$COORDINATOR" ls "$FOLDER/outbox/$HOSPITAL/" | grep -E '^[a-z0-9.-]+\.bundle$' || true); do
        if [ ! -e "$SHARED/done/$path" ] && [ ! -e "$SHARED/in/$path" ]; then
            scp -q "$COORDINATOR:$FOLDER/outbox/$HOSPITAL/$path" "$SHARED/in/.$path" && mv "$SHARED/in/.$path" "$SHARED/in/$path"
        fi
    done
    for reply in "$SHARED"/out/*.reply; do
        [ -e "$reply" ] || continue
        name=$(basename "$reply")
        scp -q "$reply" "$COORDINATOR:$name" &&
            ssh "$COORDINATOR" sonoshare coordinator take "$name" --home "$FOLDER" && mv "$reply" "$SHARED/sent/"
    done
    [ -z "${ONCE:-}" ] || exit 0
    sleep "${PAUSE:-30}"
done
