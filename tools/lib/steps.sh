# shellcheck shell=bash
# Named, timed steps. Sourced by `test`; a failed step does not hide the ones after it.

step_times=()
step_failed=()

# step NAME command...: runs the command under a headline, and notes how long it took. Not written
# as `"$@" || …`, which would switch `set -e` off inside the command.
step() {
  local name=$1 begin=$SECONDS rc
  shift
  echo
  echo "== $name"
  set +e
  (set -e; "$@")
  rc=$?
  set -e
  step_times+=("$(printf '%5d s  %s' $((SECONDS - begin)) "$name")")
  ((rc == 0)) || { step_failed+=("$name"); echo "== $name FAILED with $rc" >&2; }
}

# skip NAME WHY: says what was not run.
skip() { echo; echo "== $1: skipped; $2"; step_times+=("      -  $1 (skipped)"); }

# has_failed NAME: true if that step ran and failed.
has_failed() { local name; for name in "${step_failed[@]}"; do [[ $name != "$1" ]] || return 0; done; return 1; }

# Prints the times; ends with 1 and the names if a step failed.
sum_up() {
  echo
  printf '%s\n' "${step_times[@]}"
  if ((${#step_failed[@]})); then
    echo "tools/test: FAILED: $(printf '%s, ' "${step_failed[@]}" | sed 's/, $//')"
    exit 1
  fi
  echo "tools/test: ok, ${#step_times[@]} steps, $SECONDS s"
}
