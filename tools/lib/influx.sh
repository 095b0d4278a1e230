# shellcheck shell=bash disable=SC2154 # dir, cache: set by `services`
# InfluxDB: administrator admin/admin-secret; database or bucket "shipper", and "short", which keeps one hour.
#   influx16   1.6.7 of Debian: /write alone
#   influx18   1.8.10, built from its Go module: /write and /api/v2/write (two minutes, once)
#   influx27   2.7.12, built from its Go module and, for its query language, with cargo (some minutes, once)
# 1.x: user shipper/shipper-secret may only write; 500 values of one tag at most. 2.x: token shipper-token.

INFLUX18_VERSION=v1.8.10
INFLUX27_VERSION=v2.7.12

influx_program() {
  case $1 in
    influx16) echo /usr/bin/influxd ;;
    influx18) echo "$cache/influxd-$INFLUX18_VERSION/influxd" ;;
    influx27) echo "$cache/influxd-$INFLUX27_VERSION/influxd" ;;
  esac
}

influx_install() {
  local name=$1 program
  need curl iproute2
  program=$(influx_program "$name")
  [[ ! -x $program ]] || return 0
  if [[ $name == influx16 ]]; then need influxdb; return; fi
  command -v go >/dev/null || need golang-go
  mkdir -p "$(dirname "$program")" "$dir"
  say "building $name (minutes, once)"
  "build_$name" "$program" >"$dir/$name-build.log" 2>&1 </dev/null ||
    { tail -n 5 "$dir/$name-build.log" >&2; die "$name did not build, see $dir/$name-build.log"; }
}

build_influx18() { GOBIN=$(dirname "$1") go install "github.com/influxdata/influxdb/cmd/influxd@$INFLUX18_VERSION"; }

# Its module has a 'replace', so it cannot be installed by name; a module of ours has the same one. Its Rust
# part pins a toolchain and forbids warnings that newer ones give: it is built in a copy where that is lifted.
build_influx27() {
  local program=$1 work cargo
  cargo=$(command -v cargo) || { echo "needs cargo 1.72 or newer"; return 1; }
  work=$(mktemp -d "$cache/.part.XXXXXX")
  cat >"$work/go.mod" <<EOF
module local/influxd
go 1.23.0
require github.com/influxdata/influxdb/v2 $INFLUX27_VERSION
replace github.com/nats-io/nats-streaming-server v0.11.2 => github.com/influxdata/nats-streaming-server v0.11.3-0.20201112040610-c277f7560803
EOF
  printf '//go:build tools\npackage tools\nimport _ "github.com/influxdata/influxdb/v2/cmd/influxd"\n' >"$work/tools.go"
  cat >"$work/cargo" <<EOF
#!/bin/bash
grep -rl --include='*.rs' 'deny(warnings' . | xargs -r chmod u+w
grep -rl --include='*.rs' 'deny(warnings' . | xargs -r sed -i 's/deny(warnings/allow(warnings/'
exec "$cargo" "\$@"
EOF
  chmod 755 "$work/cargo"
  (
    cd "$work" || exit 1
    if command -v rustup >/dev/null; then RUSTUP_TOOLCHAIN=$(rustup default | cut -d' ' -f1); export RUSTUP_TOOLCHAIN; fi
    GOBIN=$work go install github.com/influxdata/pkg-config@v0.2.7 &&
      CGO_ENABLED=1 CARGO=$work/cargo PKG_CONFIG=$work/pkg-config GOFLAGS=-mod=mod \
        go build -o "$program.part" github.com/influxdata/influxdb/v2/cmd/influxd
  ) && mv "$program.part" "$program" && rm -rf "$work"
}

influx_start() {
  local name=$1 at=$dir/$1 key=${1^^} p
  p=$(port "$name")
  (umask 077 && echo shipper-secret >"$at/password" && echo shipper-token >"$at/token")
  printf '%s_URL=http://127.0.0.1:%s\n%s_PASSWORD_FILE=%s\n%s_TOKEN_FILE=%s\n' \
    "$key" "$p" "$key" "$at/password" "$key" "$at/token" >"$at/env"
  if [[ $name == influx27 ]]; then
    HOME=$at spawn "$name" "$(influx_program "$name")" --bolt-path "$at/influxd.bolt" --sqlite-path "$at/influxd.sqlite" \
      --engine-path "$at/engine" --http-bind-address "127.0.0.1:$p" --reporting-disabled --log-level warn
    return
  fi
  cat >"$at/influxdb.conf" <<EOF
reporting-disabled = true
bind-address = "127.0.0.1:$(port "$name.backup")"
[meta]
  dir = "$at/meta"
[data]
  dir = "$at/data"
  wal-dir = "$at/wal"
  query-log-enabled = false
  max-values-per-tag = 500
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:$p"
  auth-enabled = true
  log-enabled = false
  max-body-size = 1000000
[logging]
  level = "warn"
  suppress-logo = true
EOF
  spawn "$name" "$(influx_program "$name")" -config "$at/influxdb.conf"
}

# It answers, and has its users and databases: a new data folder takes its first administrator without a password.
influx_ready() {
  local name=$1 at=$dir/$1 url org
  url=http://127.0.0.1:$(port "$name")
  curl -fs -m 2 -o /dev/null "$url/ping" || return 1
  [[ ! -e $at/made ]] || return 0
  if [[ $name == influx27 ]]; then
    curl -s -m 20 -o /dev/null "$url/api/v2/setup" -H 'content-type: application/json' \
      -d '{"username":"admin","password":"admin-secret","org":"shipper","bucket":"shipper","token":"shipper-token"}' || return 1
    org=$(curl -fs -m 10 "$url/api/v2/orgs?org=shipper" -H 'Authorization: Token shipper-token' | grep -o '"id": *"[0-9a-f]*"' | head -n 1 | cut -d'"' -f4)
    [[ $org ]] || return 1
    curl -s -m 10 -o /dev/null "$url/api/v2/buckets" -H 'Authorization: Token shipper-token' -H 'content-type: application/json' \
      -d "{\"orgID\":\"$org\",\"name\":\"short\",\"retentionRules\":[{\"type\":\"expire\",\"everySeconds\":3600}]}" || return 1
  else
    influx_tool "$name" shipper "CREATE USER admin WITH PASSWORD 'admin-secret' WITH ALL PRIVILEGES" >/dev/null 2>&1 || true
    influx_tool "$name" shipper "CREATE DATABASE shipper; CREATE DATABASE short WITH DURATION 1h; CREATE USER shipper WITH PASSWORD 'shipper-secret'; \
      GRANT WRITE ON shipper TO shipper; GRANT WRITE ON short TO shipper" >/dev/null || return 1
  fi
  touch "$at/made"
}

# tool NAME DATABASE QUERY: InfluxQL as administrator, answered in JSON with times in nanoseconds.
influx_tool() {
  local name=$1 db=$2 query=$3
  local -a login=(-u admin:admin-secret)
  [[ $name != influx27 ]] || login=(-H 'Authorization: Token shipper-token')
  curl -fsS -m 20 "${login[@]}" "http://127.0.0.1:$(port "$name")/query" \
    --data-urlencode "db=$db" --data-urlencode epoch=ns --data-urlencode "q=$query"
}
