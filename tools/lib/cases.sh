# shellcheck shell=bash
# What each step of `test` does. Sourced by it, in the root of the checkout.

# On a machine that builds once and forgets, debug information and incremental files only cost.
for_ci() {
  [[ ${CI:-} ]] || return 0
  export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 CARGO_TERM_COLOR=never
}

# cargo fmt does not enter modules that a macro declares, so every file is named.
check_format() { git ls-files -z '*.rs' | xargs -0 rustfmt --edition 2024 --check; }

check_scripts() {
  command -v shellcheck >/dev/null || need shellcheck
  if ! command -v shellcheck >/dev/null; then echo "skipped: no shellcheck"; return 0; fi
  # What is committed: a folder that only this checkout has must not decide.
  git ls-files -z tools packaging .ci | xargs -0 grep -lE '^#!.*\b(ba)?sh\b' | xargs shellcheck -x -P tools
  shellcheck -x -P tools tools/lib/*.sh
}

# Pages of modules lead to their private parts, for whoever reads the code with its pages.
check_docs() { RUSTDOCFLAGS='-D rustdoc::broken_intra_doc_links -A rustdoc::private_intra_doc_links' cargo doc --no-deps --lib --quiet; }

say_vectors() {
  local at=${SHIPPER_VECTORS:-../shared/vectors}
  [[ -d $at ]] || { echo; echo "== golden vectors: their tests skip; $PWD/$at is not there (SHIPPER_VECTORS names another place)"; }
}

# run_test NAME ARGUMENT...: one integration binary, if this checkout has it; with $features, where that is set.
run_test() {
  if [[ ! -e tests/$1/main.rs && ! -e tests/$1.rs ]]; then echo "skipped: no tests/$1"; return 0; fi
  cargo test ${features:+--features "$features"} --test "$1" "${@:2}"
}

# In shipper's own target folder; release, since a model runs thousands of times.
run_models() { CARGO_TARGET_DIR=$PWD/target cargo test --release --manifest-path tests/loom/Cargo.toml --lib; }

# What a build without any feature is: it compiles, its lints hold, and what it cannot do it says.
check_bare() {
  cargo clippy --no-default-features --all-targets --quiet -- -D warnings
  cargo test --no-default-features --lib
  cargo test --no-default-features --test it
}

# Everything that only a build with YARA has: units, the kill tests of the agent, the demo.
check_scan() {
  cargo test --features scan,amqp-tls --lib scan
  cargo test --features scan,amqp-tls --test it scan
}

# Without cargo bench's own flag divan runs each bench once and measures nothing.
run_benches() {
  local -a benches=(benches/*.rs)
  if ((${#benches[@]} == 0)); then echo "skipped: no benches"; return 0; fi
  cargo test --bench '*'
}

# services_step FILTER NAME...: starts these services and runs the tests whose names hold FILTER (all: '').
# They run in a scratch folder of their own and are stopped whatever the tests say. It is not below a
# home directory, since some services run as another user.
services_step() {
  local filter=$1
  shift
  if [[ ! -e tests/services/main.rs ]]; then skip "real services" "no tests/services"; return 0; fi
  SERVICES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/shipper-test.XXXXXX")
  export SERVICES_DIR
  trap 'tools/services destroy' EXIT
  step "start services" tools/services start "$@"
  local line
  while IFS= read -r line; do export "${line?}"; done < <(tools/services env)
  has_failed "start services" || step "real services" run_test services ${filter:+"$filter"}
  step "stop services" tools/services destroy
  trap - EXIT
}

# installed NAME: a cargo tool of the wanted version, compiled once into the cache.
installed() {
  local name=$1 version=$2 root=${XDG_CACHE_HOME:-$HOME/.cache}/shipper-tools
  PATH=$root/bin:$PATH
  if ! "$name" --version 2>/dev/null | grep -qF "$version"; then
    say "compiling $name $version (minutes, once)"
    cargo install --quiet --locked --root "$root" "$name@$version"
  fi
}

check_supply_chain() {
  installed cargo-deny 0.20.2
  cargo deny --locked check licenses bans sources
}

check_packages() {
  local deb
  need systemd lintian shellcheck procps
  build_deb
  look_into "$deb"
  try_installed "$deb"
}
