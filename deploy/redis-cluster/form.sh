#!/bin/sh
# Makes a cluster of the nodes HOST:PORT in $NODES, once: three primaries and a replica of each.
set -eu
REDISCLI_AUTH=$(cat "$PASSWORD_FILE")
export REDISCLI_AUTH
nodes=
for node in $NODES; do
  until address=$(getent hosts "${node%:*}" | cut -d' ' -f1) && [ -n "$address" ] &&
    redis-cli -h "$address" -p "${node#*:}" ping | grep -q PONG; do
    echo "waiting for $node"
    sleep 2
  done
  nodes="$nodes $address:${node#*:}"
  first=${first:-$address:${node#*:}}
done
if redis-cli -h "${first%:*}" -p "${first#*:}" cluster info | tr -d '\r' | grep -q '^cluster_slots_assigned:16384$'; then
  echo "the cluster is formed already"
else
  # Refuses nodes that have keys or know others.
  # shellcheck disable=SC2086
  redis-cli --cluster create $nodes --cluster-replicas 1 --cluster-yes
fi
