#!/bin/sh
# Lay out what hospital.yaml mounts: FOLDER/node stays the agent's, FOLDER/courier gets what a courier needs, and no more.
#
#   sh hospital-folders.sh FOLDER
#
# FOLDER/node is a node that has joined and enrolled. Run as root, and again after `hospital keys rotate` has changed the
# courier's key or the coordinator's authority. The courier's folder has no identity key, no vault, no vault key, no ledger.
set -eu
umask 077
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
node=$1/node
courier=$1/courier
if [ ! -f "$node/home.toml" ]; then
    echo "error: $node is no node's folder; with the invitation that the coordinator sends:" >&2
    echo "  sonoshare hospital join INVITATION --home $(quoted "$node")" >&2
    exit 1
fi
if [ ! -f "$node/state/roster.dsse.json" ]; then
    echo "error: $node has not enrolled; with the roster that the coordinator sends:" >&2
    echo "  sonoshare hospital enrol --home $(quoted "$node") --roster roster.dsse.json" >&2
    exit 1
fi
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
    echo "not root: the containers cannot read these folders yet; as root:" >&2
    echo "  chown -R 10001:10000 $(quoted "$node")" >&2
    echo "  chown -R 10002:10000 $(quoted "$courier")" >&2
fi
