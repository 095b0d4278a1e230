# shellcheck shell=bash disable=SC2154 # dir, base_port: set by `services`
# Processes that outlive the script which started them: pid files that no reused pid can deceive,
# ports that a restarted service keeps, waiting for a condition. Sourced by `services`.

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# The start time of a pid in clock ticks: with it, a pid names one process for ever.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the command name may hold blanks and brackets
  local -a field
  read -ra field <<<"$stat"
  [[ ${field[0]} != Z ]] || return 1
  echo "${field[19]}"
}

record_pid() { echo "$2 $(start_time "$2")" >"$dir/$1/pid"; } # NAME PID

# True if that very process of NAME still lives; with `print`, prints its pid.
alive() {
  local pid born
  [[ -s $dir/$1/pid ]] || return 1
  read -r pid born <"$dir/$1/pid"
  [[ $(start_time "$pid" || true) == "$born" ]] || return 1
  [[ ${2:-} != print ]] || echo "$pid"
}

# spawn NAME command...: in its own session, without our lock, logging to DIR/NAME/log.
spawn() {
  local name=$1 pid
  shift
  setsid "$@" >>"$dir/$name/log" 2>&1 </dev/null 9>&- &
  pid=$!
  sleep 0.05
  record_pid "$name" "$pid" || { tail -n 20 "$dir/$name/log" >&2; die "$name died at once"; }
}

signal() { local pid; pid=$(alive "$1" print) && kill "-$2" "$pid"; } # NAME SIGNAL

# stop_pid NAME SECONDS: SIGTERM, wait, SIGKILL. 0 seconds: SIGKILL at once.
stop_pid() {
  local name=$1 tenths=$(($2 * 10)) pid
  pid=$(alive "$name" print) || { rm -f "$dir/$name/pid"; return 0; }
  if ((tenths > 0)); then
    kill -TERM "$pid" 2>/dev/null || true
    while ((tenths-- > 0)) && alive "$name"; do sleep 0.1; done
    ! alive "$name" || say "$name ignored SIGTERM"
  fi
  if alive "$name"; then kill -KILL "$pid" 2>/dev/null || true; fi
  for _ in {1..50}; do alive "$name" || break; sleep 0.1; done
  rm -f "$dir/$name/pid"
}

# await NAME SECONDS command...: until the command is true, the process is gone, or the time is up.
await() {
  local name=$1 end=$((SECONDS + $2))
  shift 2
  until "$@"; do
    alive "$name" || { tail -n 20 "$dir/$name/log" >&2; die "$name died while starting, see $dir/$name/log"; }
    ((SECONDS < end)) || { tail -n 20 "$dir/$name/log" >&2; die "$name was not ready in time, see $dir/$name/log"; }
    sleep 0.1
  done
}

status_line() {
  local name=$1 pid state=dead rss=-
  if pid=$(alive "$name" print); then
    state=up
    [[ $(awk '/^State/{print $2}' "/proc/$pid/status") != T ]] || state=paused
    rss="$(($(awk '/^VmRSS/{print $2}' "/proc/$pid/status") / 1024)) MiB"
  fi
  printf '%-10s %-6s pid %-8s %s\n' "$name" "$state" "${pid:--}" "$rss"
}

listening() { [[ -n $(ss -Hltn "sport = :$1") ]]; }

# port KEY: the port that KEY has in DIR/ports; a free one is taken and noted the first time.
port() {
  local key=$1 p
  touch "$dir/ports"
  p=$(awk -v k="$key" '$1 == k {print $2}' "$dir/ports")
  if [[ -z $p ]]; then
    p=$base_port
    while listening "$p" || grep -q " $p\$" "$dir/ports"; do
      p=$((p + 1))
      ((p < 32768)) || die "no free port from $base_port up" # from 32768 on the kernel hands them out
    done
    echo "$key $p" >>"$dir/ports"
  fi
  echo "$p"
}
