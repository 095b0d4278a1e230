# shellcheck shell=bash disable=SC2154 # dir: set by `services`
# Redis: TCP and unix socket with passwords, TLS, ACL users.
#   redis            everything; redis-disturbed, redis-alerts, redis-flushed, redis-store, redis-apt and redis-away are others like it
#   default (redis-secret) may do all; shipper (shipper-secret) what a client of ours needs, on its keys
#   redis-primary, redis-replica, and sentinels redis-sentinel-1 to -3 that watch over them as `mymaster`: start all five
#   redis-node-1 to -3   a cluster, joined when the third has started

redis_install() { need redis-server redis-tools iproute2 openssl; }

redis_start() {
  local name=$1 at=$dir/$1 key
  key=${name^^}
  key=${key//-/_}
  certs
  case $name in
    redis-sentinel-*) redis_sentinel "$name" "$key" && return ;;
  esac
  cat >"$at/redis.conf" <<CONF
bind 127.0.0.1
port $(port "$name")
tls-port $(port "$name.tls")
tls-cert-file $dir/certs/server.pem
tls-key-file $dir/certs/server.key
tls-ca-cert-file $dir/certs/ca.pem
tls-auth-clients no
unixsocket $at/sock
unixsocketperm 700
daemonize no
dir $at
save ""
user default on >redis-secret ~* &* +@all
user shipper on >shipper-secret ~ioc:* ~shipper:* ~waf:* ~{waf:* ~apt* ~{apt* &* +@all -@admin -@dangerous
CONF
  case $name in
    redis-primary | redis-replica) printf 'masterauth redis-secret\nrepl-diskless-sync-delay 0\nappendonly yes\n' >>"$at/redis.conf" ;;
    redis-node-*) printf 'cluster-enabled yes\ncluster-node-timeout 2000\ncluster-port %s\nmasterauth redis-secret\n' "$(port "$name.bus")" >>"$at/redis.conf" ;;
  esac
  if [[ $name == redis-replica ]]; then echo "replicaof 127.0.0.1 $(port redis-primary)" >>"$at/redis.conf"; fi
  chmod 600 "$at/redis.conf"
  (umask 077 && echo shipper-secret >"$at/password")
  cat >"$at/env" <<ENV
${key}_URL=redis://127.0.0.1:$(port "$name")
${key}_TLS_URL=rediss://localhost:$(port "$name.tls")
${key}_SOCKET=unix:$at/sock
REDIS_PASSWORD_FILE=$at/password
SERVICES_CERTS=$dir/certs
ENV
  spawn "$name" redis-server "$at/redis.conf"
}

redis_sentinel() {
  local name=$1 key=$2 at=$dir/$1
  # What it has learnt stands in its own file: a restart goes on from there.
  [[ -e $at/redis.conf ]] || cat >"$at/redis.conf" <<CONF
bind 127.0.0.1
port $(port "$name")
daemonize no
dir $at
sentinel monitor mymaster 127.0.0.1 $(port redis-primary) 2
sentinel auth-pass mymaster redis-secret
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 3000
CONF
  echo "${key}_ADDRESS=127.0.0.1:$(port "$name")" >"$at/env"
  spawn "$name" redis-server "$at/redis.conf" --sentinel
}

redis_ready() {
  case $1 in
    redis-replica) redis_tool "$1" info replication 2>/dev/null | grep -qE 'master_link_status:up|role:master' ;;
    redis-sentinel-*) [[ $(redis_tool "$1" info sentinel 2>/dev/null) == *sentinels=3* ]] ;;
    redis-node-3) redis_join && [[ $(redis_tool "$1" cluster info 2>/dev/null) == *cluster_state:ok* ]] ;;
    *) [[ $(redis_tool "$1" ping 2>/dev/null) == PONG ]] ;;
  esac
}

# Makes one cluster of the three nodes, once.
redis_join() {
  local node all=()
  [[ $(redis_tool redis-node-3 cluster info 2>/dev/null) == *cluster_slots_assigned:0* ]] || return 0
  for node in redis-node-1 redis-node-2 redis-node-3; do all+=("127.0.0.1:$(port "$node")"); done
  REDISCLI_AUTH=redis-secret redis-cli --cluster create "${all[@]}" --cluster-yes >"$dir/redis-node-3/join.log" 2>&1
}

redis_tool() {
  local name=$1 auth=(env REDISCLI_AUTH=redis-secret)
  shift
  [[ $name != redis-sentinel-* ]] || auth=()
  "${auth[@]}" redis-cli -p "$(port "$name")" "$@"
}
