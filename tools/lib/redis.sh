# shellcheck shell=bash disable=SC2154 # dir: set by `services`
# Redis: TCP and unix socket with passwords, TLS, ACL users.
#   redis            everything; redis-disturbed, redis-alerts and redis-flushed are others like it
#   default (redis-secret) may do all; shipper (shipper-secret) what a client of ours needs, on its keys

redis_install() { need redis-server redis-tools iproute2 openssl; }

redis_start() {
  local name=$1 at=$dir/$1 key
  key=${name^^}
  key=${key//-/_}
  certs
  cat >"$at/redis.conf" <<EOF
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
user shipper on >shipper-secret ~ioc:* ~shipper:* ~waf:* ~{waf:* ~apt:* &* +@all -@admin -@dangerous
EOF
  chmod 600 "$at/redis.conf"
  (umask 077 && echo shipper-secret >"$at/password")
  cat >"$at/env" <<EOF
${key}_URL=redis://127.0.0.1:$(port "$name")
${key}_TLS_URL=rediss://localhost:$(port "$name.tls")
${key}_SOCKET=unix:$at/sock
REDIS_PASSWORD_FILE=$at/password
SERVICES_CERTS=$dir/certs
EOF
  spawn "$name" redis-server "$at/redis.conf"
}

redis_ready() { [[ $(redis_tool "$1" ping 2>/dev/null) == PONG ]]; }

redis_tool() {
  local name=$1
  shift
  REDISCLI_AUTH=redis-secret redis-cli -p "$(port "$name")" "$@"
}
