# shellcheck shell=bash disable=SC2034 # read by the scripts that source this
# What every script here needs: words to the person, and system packages that are installed by
# name, only when they are missing. Sourced, never run.

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# The comment block at the top of the calling script is its help.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# Prints the help and ends, if the first argument asks for it.
help_asked() { case ${1:-} in -h | --help | help) usage; exit 0 ;; esac; }

# Runs a command as root: as we are, or through sudo.
as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"
  elif command -v sudo >/dev/null; then sudo -- "$@"
  else die "need root for: $*; run that yourself, or install sudo"
  fi
}

has_package() { [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == 'install ok installed' ]]; }

# need PACKAGE...: installs those that are not there, with apt. Debian starts a daemon that it has
# installed unless policy-rc.d forbids it, and that daemon would take a well-known port.
need() {
  local -a missing=()
  local package policy=/usr/sbin/policy-rc.d made='' log rc=0
  if ! command -v dpkg-query >/dev/null; then
    [[ -n ${NEED_SAID:-} ]] || say "no dpkg on this system; install the equivalents of: $*"
    NEED_SAID=1
    return 0
  fi
  for package; do has_package "$package" || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  say "installing with apt: ${missing[*]}"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    made=yes
  fi
  log=$(mktemp)
  apt_install "${missing[@]}" >"$log" 2>&1 </dev/null ||
    { as_root apt-get update >>"$log" 2>&1 </dev/null && apt_install "${missing[@]}" >>"$log" 2>&1 </dev/null; } || rc=$?
  [[ -z $made ]] || as_root rm -f $policy
  ((rc == 0)) || { tail -n 5 "$log" >&2; die "apt could not install ${missing[*]}, see $log"; }
  rm -f "$log"
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
}

# What cargo needs to build us: librdkafka is C, and glommio's build script calls git.
build_packages=(gcc g++ make git pkg-config libssl-dev)

# Ends with the remedy where there is no Rust toolchain.
need_cargo() {
  command -v cargo >/dev/null || [[ ! -x $HOME/.cargo/bin/cargo ]] || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "no cargo in PATH; install a Rust toolchain with rustup, then run this again"
}
