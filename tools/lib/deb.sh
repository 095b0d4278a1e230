# shellcheck shell=bash
# Builds the .deb and treats it as an administrator would. Sourced by `test`.

# licences: those of everything that is compiled into the binary, each text once.
licences() {
  local name version licence dir file sum
  declare -A seen=()
  echo "What the binaries contain beside shipper itself, and under which licences. Equal texts stand once."
  while IFS='|' read -r name licence; do
    version=${name#* v} name=${name%% *}
    version=${version%% *}
    for dir in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-$version"; do
      printf '\n==== %s %s (%s)\n' "$name" "$version" "$licence"
      # Three levels: C libraries lie inside the crates that bind them.
      while IFS= read -r file; do
        sum=$(sha256sum <"$file")
        if [[ ${seen[$sum]:-} ]]; then
          printf -- '---- %s: as %s\n' "${file#"$dir/"}" "${seen[$sum]}"
        else
          seen[$sum]="$name-$version/${file#"$dir/"}"
          printf -- '---- %s\n\n' "${file#"$dir/"}"
          cat "$file"
          echo
        fi
      done < <(find "$dir" -maxdepth 3 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname unlicense \) | LC_ALL=C sort)
    done
  done < <(cargo tree --locked --edges normal,build --features vendored,onnx,scan,amqp-tls --prefix none --format '{p}|{l}' | grep -v '^shipper ' | LC_ALL=C sort -u)
}

# build_deb: sets `deb`. The release build takes minutes; OpenSSL and zlib are compiled into it.
# shellcheck disable=SC2034 # deb: the caller's
build_deb() {
  installed cargo-deb 3.8.0
  need perl binutils
  cargo build --release --locked --features vendored,onnx,scan,amqp-tls --bins
  rm -f target/debian/*.deb
  mkdir -p target/debian
  licences >target/debian/licences.txt
  cargo deb --no-build --strip --quiet
  deb=$(echo target/debian/shipper_*.deb)
}

fail() { echo "package: $*" >&2; return 1; }

# look_into DEB: what can be seen without installing it. In a shell of its own, whose end clears up.
look_into() (
  local scratch file foreign
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the name as it is now
  trap "rm -rf '$scratch'" EXIT
  dpkg-deb -R "$1" "$scratch"
  for file in usr/bin/shipper usr/bin/shipper-bench etc/shipper/shipper.toml usr/lib/systemd/system/shipper.service \
    usr/lib/sysusers.d/shipper.conf usr/lib/tmpfiles.d/shipper.conf usr/share/doc/shipper/{README.md,OPERATING.md,NOTICE,copyright} usr/share/man/man8/shipper.8.gz; do
    [[ -e $scratch/$file ]] || fail "lacks /$file"
  done
  [[ -z $(find "$scratch" -path "$scratch/DEBIAN" -prune -o ! -type l -perm /022 -print) ]] || fail "has files that others may write"
  for file in librdkafka openssl zstd glommio; do
    zgrep -q "$file" "$scratch"/usr/share/doc/shipper/licences.txt* || fail "names no licence of $file"
  done
  # One binary for many systems: nothing but the C library comes from outside.
  foreign=$(ldd "$scratch/usr/bin/shipper" | grep -vE 'linux-vdso|ld-linux|lib(c|m|gcc_s|pthread|dl|rt)\.so' || true)
  [[ -z $foreign ]] || fail "wants more than the C library: $foreign"
  shellcheck -s sh "$scratch"/DEBIAN/{postinst,prerm,postrm}
  # The unit as systemd reads it, with the binary where it lies now.
  sed "s|/usr/bin/shipper|$scratch/usr/bin/shipper|" "$scratch/usr/lib/systemd/system/shipper.service" >"$scratch/shipper.service"
  systemd-analyze verify --man=no "$scratch/shipper.service" 2>"$scratch/said" || { cat "$scratch/said"; fail "the unit cannot be loaded"; }
  ! grep -F "$scratch" "$scratch/said" || fail "the unit is not clean"
  # 0 is locked in, 100 is root without walls.
  systemd-analyze security --offline=yes --no-pager --threshold=25 "$scratch/usr/lib/systemd/system/shipper.service" >"$scratch/said" ||
    { grep -F '✗' "$scratch/said"; fail "the unit is more exposed than 2.5"; }
  lintian --allow-root --fail-on error --suppress-tags non-standard-file-perm "$1"
)

# as_agent command...: as the user that the unit runs it as.
as_agent() { as_root setpriv --reuid shipper --regid shipper --init-groups "$@"; }

# try_installed DEB: installs it, uses it, upgrades it, removes it, purges it. Only where no shipper is
# nor was: purging takes its state.
try_installed() (
  local said rc=0 path group=''
  if has_package shipper || [[ -e /etc/shipper || -e /var/lib/shipper ]] || id shipper >/dev/null 2>&1; then
    echo "skipped: this machine has a shipper of its own, which is not touched"
    return 0
  fi
  getent group wazuh >/dev/null || { as_root groupadd --system wazuh; group=wazuh; }
  # Whatever fails, this machine is left as it was.
  # shellcheck disable=SC2064 # the group as it is now
  trap "uninstall '$group'" EXIT
  as_root dpkg -i "$1"

  id -nG shipper | grep -qw wazuh || fail "the agent's user is not in group wazuh"
  [[ $(as_root stat -c '%U:%G %a' /etc/shipper/shipper.toml) == 'root:shipper 640' ]] || fail "the config has the wrong owner or mode"
  [[ $(as_root stat -c '%U:%G %a' /var/lib/shipper) == 'shipper:shipper 700' ]] || fail "the state folder has the wrong owner or mode"
  [[ -L /etc/systemd/system/multi-user.target.wants/shipper.service ]] || fail "the unit is not enabled"
  [[ -z $(pgrep -u shipper) ]] || fail "an unconfigured agent was started"
  shipper --version
  shipper list >/dev/null

  # Fresh: refused, with the two settings that are missing, and nothing shipped.
  said=$(as_agent shipper run 2>&1) || rc=$?
  ((rc == 78)) || fail "a fresh config ends with $rc, not with 78"
  grep -q 'sinks.dfn_cert.brokers: must be set' <<<"$said" || fail "a fresh config does not name the brokers: $said"
  grep -q 'sinks.dfn_cert.topic: must be set' <<<"$said" || fail "a fresh config does not name the topic: $said"
  [[ -z $(as_root ls -A /var/lib/shipper) ]] || fail "a refused start left state"

  # With them: right. Then a record through the packaged binary, from standard input to standard output.
  as_root sed -i 's/^#\(brokers\|topic\) = /\1 = /' /etc/shipper/shipper.toml
  as_agent shipper check --offline
  path=$(mktemp)
  cat >"$path" <<'EOF'
log.level = "warn"
[sources.in]
kind = "stdin"
[handlers.all]
kind = "forward"
inputs = ["in"]
[sinks.out]
kind = "stdout"
inputs = ["all"]
required = true
EOF
  chmod 644 "$path"
  said=$(as_agent shipper run --config "$path" <<<'{"timestamp":"2026-11-24T12:00:00.000+0000","id":"1"}')
  rm -f "$path"
  [[ $said == *'"id":"1"'* ]] || fail "the packaged agent did not hand a record on: $said"

  # An upgrade keeps what the administrator wrote; removing keeps config and state; purging nothing.
  as_root dpkg -i "$1"
  as_root grep -q '^topic = ' /etc/shipper/shipper.toml || fail "an upgrade lost the config"
  as_root dpkg -r shipper
  as_root grep -q '^topic = ' /etc/shipper/shipper.toml || fail "removing lost the config"
  as_root test -e /var/lib/shipper/checkpoint.a || fail "removing lost the state"
  as_root dpkg -P shipper
  for path in /etc/shipper /var/lib/shipper /usr/bin/shipper /usr/share/doc/shipper /etc/systemd/system/multi-user.target.wants/shipper.service; do
    [[ ! -e $path && ! -L $path ]] || fail "purging left $path"
  done
)

# uninstall GROUP: takes away what `try_installed` left, and the group if it made one. The user stays
# after a purge, as Debian wants it, but this machine did not have it before.
uninstall() {
  as_root dpkg -P shipper >/dev/null 2>&1 || true
  if id shipper >/dev/null 2>&1; then as_root userdel shipper; fi
  [[ -z $1 ]] || as_root groupdel "$1"
}
