#!/usr/bin/env bash
# Everything but the tests that a change must pass: format, lints, documentation, dependencies.
set -euo pipefail

say() { printf '== %s\n' "$*" >&2; }

say "format"
cargo fmt --all --check

say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

if ! cargo deny --version >/dev/null 2>&1; then
  say "dependencies: SKIPPED, cargo-deny is not installed (cargo install cargo-deny)"
  exit 0
fi
say "dependencies: bans, licences, sources"
cargo deny --locked check bans licenses sources
say "dependencies: advisories"
if database=$(cargo deny --locked fetch db 2>&1); then
  cargo deny --locked check advisories
else
  say "dependencies: advisories were SKIPPED, their database cannot be reached: $(tail -n 1 <<<"$database")"
fi
