#!/usr/bin/env bash
# Everything but the tests that a change must pass: format, lints, documentation, dependencies.
set -euo pipefail

say() { printf '== %s\n' "$*" >&2; }

say "format"
cargo fmt --all --check

say "the producer links no database driver"
if cargo tree --locked --package orderfleet-producer --edges normal --invert mongodb >/dev/null 2>&1; then
  say "it does"
  exit 1
fi

say "release builds leave debug assertions, and so crash points, out"
if grep -n 'debug-assertions' Cargo.toml; then
  exit 1
fi

say "lints"
cargo clippy --workspace --all-targets --features orderfleet-tests/containers --locked -- -D warnings

say "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

if ! cargo deny --version >/dev/null 2>&1; then
  say "cargo-deny is missing: cargo install --locked cargo-deny (or set SKIP_DENY=1)"
  [ "${SKIP_DENY:-}" = 1 ] || exit 1
  say "dependencies: SKIPPED"
  exit 0
fi
say "dependencies: bans, licences, sources"
cargo deny --locked --all-features check bans licenses sources
say "dependencies: advisories"
if database=$(cargo deny --locked fetch db 2>&1); then
  cargo deny --locked --all-features check advisories
else
  say "dependencies: advisories were SKIPPED, their database cannot be reached: $(tail -n 1 <<<"$database")"
fi
