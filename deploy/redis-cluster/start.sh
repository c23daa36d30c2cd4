#!/bin/sh
# Starts one node. Its pod may have another address than before, so it announces the new one, and meets its peers by their names.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/redis/password)
export REDISCLI_AUTH
{
  cat /etc/spillway-redis/redis.conf
  echo "cluster-announce-ip $POD_IP"
  echo "cluster-announce-hostname $POD_NAME.spillway-redis.$POD_NAMESPACE.svc.cluster.local"
  echo "requirepass $REDISCLI_AUTH"
  echo "masterauth $REDISCLI_AUTH"
} > /tmp/redis.conf
meet() {
  until redis-cli ping | grep -q PONG; do sleep 1; done
  # A node of a cluster that is not formed yet waits for form.sh.
  redis-cli cluster info | tr -d '\r' | grep -q '^cluster_known_nodes:1$' && return
  for n in 0 1 2 3 4 5; do
    address=$(getent hosts "spillway-redis-$n.spillway-redis" | cut -d' ' -f1)
    [ -z "$address" ] || redis-cli cluster meet "$address" 6379
  done
}
meet &
exec redis-server /tmp/redis.conf
