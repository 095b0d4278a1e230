# shellcheck shell=bash
# The routes of scanning of a running agent, held against their own OpenAPI by schemathesis. Sourced by `test`.

SCHEMATHESIS_VERSION=4.32.5

# schemathesis in a venv of its own, made once.
schemathesis() {
  local venv=${XDG_CACHE_HOME:-$HOME/.cache}/shipper/schemathesis-$SCHEMATHESIS_VERSION
  if [[ ! -x $venv/bin/st ]]; then
    python3 -c 'import ensurepip' 2>/dev/null || need python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "schemathesis==$SCHEMATHESIS_VERSION" || return 1
  fi
  "$venv/bin/st" "$@"
}

# A config of everything that the routes need, and files to ask for.
scan_api_agent() {
  local work=$1 port=$2
  mkdir -p "$work"/{files/folder,rules,export,state}
  # shellcheck disable=SC2016 # a word of YARA's
  printf 'rule found { strings: $a = "EVIL-TEST-FILE" condition: $a }\n' >"$work/rules/own.yar"
  printf 'EVIL-TEST-FILE' >"$work/files/evil"
  printf 'fine' >"$work/files/folder/good"
  cat >"$work/shipper.toml" <<EOF
state.dir = "$work/state"
[scan]
roots = [{ name = "files", path = "$work/files" }]
children = 1
[scan.rules]
paths = ["$work/rules"]
[monitor]
export_dir = "$work/export"
[api]
listen = "127.0.0.1:$port"
keys_file = "$work/keys"
rate = "1000000/second"
register_rate = "1000000/second"
auth_failures = "1000000/second"
[sources.scan]
kind = "scan"
[handlers.scan]
kind = "scan"
inputs = ["scan"]
[sinks.alerts]
kind = "file"
inputs = ["scan.alert"]
path = "$work/alerts.json"
EOF
  cat >"$work/schemathesis.toml" <<EOF
# A queue may be full, and what is not offered says 501.
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "503"]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429", "5xx"]
# What a schema cannot say: whether a file is there, whether a folder was named, whether something is so already.
positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "501", "503"]
EOF
}

# Starts an agent, asks it everything that its schema allows and much that it does not, and looks whether its key stands in its log.
check_scan_api() (
  local work port key agent='' rc=0
  cargo build --features scan --bin shipper || return 1
  work=$(mktemp -d)
  trap '[[ ! $agent ]] || kill "$agent" 2>/dev/null; wait; rm -rf "$work"' EXIT
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  scan_api_agent "$work" "$port"
  key=$(target/debug/shipper keys new --name test --role admin --into "$work/keys") || return 1
  target/debug/shipper run --config "$work/shipper.toml" 2>"$work/log" &
  agent=$!
  for _ in {1..100}; do curl -fsS "http://127.0.0.1:$port/health/live" >/dev/null 2>&1 && break; sleep 0.2; done
  # Not those that stop what the others need.
  cd "$work" || return 1 # it keeps what it found where it stands
  schemathesis --config-file "$work/schemathesis.toml" run "http://127.0.0.1:$port/openapi.json" -H "X-API-Key: $key" \
    --seed 1 --max-time 240 --request-timeout 75 --phases examples,coverage,fuzzing --continue-on-failure --no-color \
    --exclude-path-regex '^/(distributed/stop|scanner/(start|stop)|shutdown)$' >"$work/out" 2>&1 || rc=$?
  cut -c -400 "$work/out" | tail -n 60
  kill -0 "$agent" || { echo "the agent is gone:"; tail -n 20 "$work/log"; return 1; }
  curl -fsS "http://127.0.0.1:$port/health/live" >/dev/null || { echo "the agent does not answer any more"; return 1; }
  if grep -F "$key" "$work/log" "$work/alerts.json" 2>/dev/null; then echo "the key stands in a file"; return 1; fi
  return "$rc"
)
