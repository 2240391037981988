#!/bin/sh
# Lay out what hospital.yaml mounts: FOLDER/node stays the agent's, FOLDER/courier gets what a courier needs, and no more.
#
#   sh hospital-folders.sh FOLDER
#
# FOLDER/node is a node that has joined and enrolled. Run as root, and again after `hospital keys rotate` has changed the
# courier's key or the coordinator's authority. The courier's folder has no identity key, no vault, no vault key, no ledger.
set -eu
umask 077
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
node=$1/node
courier=$1/courier
[ -f "$node/home.toml" ] || { echo "error: $node is no node's folder" >&2; exit 1; }
[ -f "$node/state/roster.dsse.json" ] || { echo "error: $node has not enrolled: sonoshare hospital enrol" >&2; exit 1; }
mkdir -p "$courier/state"
for name in home.toml node.key node.key.pub state/root.pub state/roster.dsse.json state/joined.json state/ca.crt; do
    if [ -f "$node/$name" ]; then
        cp "$node/$name" "$courier/$name"
        chmod 600 "$courier/$name"
    fi
done
chmod 700 "$courier" "$courier/state"
if [ "$(id -u)" -eq 0 ]; then
    chown -R 10001:10000 "$node"
    chown -R 10002:10000 "$courier"
else
    echo "not root: give $node to 10001:10000 and $courier to 10002:10000 yourself" >&2
fi
