#!/usr/bin/env bash
# Checks the units of systemd/ without running them: what systemd would complain about, and how exposed it finds them.
# With --planted it plants mistakes in a copy and sees that each is found.
set -euo pipefail
cd "$(dirname "$0")/../.."

exposure_max=15 # of 100; as they are they have 12, and nothing can have 0
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
units=$root/etc/systemd/system

# A root folder with the units, the system's own targets, and binaries to start.
stage() {
  rm -rf "${root:?}"/*
  mkdir -p "$root/usr/bin" "$root/etc/systemd" "$root/usr/lib/systemd/system"
  cp -a systemd "$units"
  local from=/usr/lib/systemd/system
  [ -d $from ] || from=/lib/systemd/system
  cp -a $from/*.target $from/*.slice $from/*.mount "$root/usr/lib/systemd/system"
  for binary in orderfleet orderfleet-producer orderfleet-worker orderfleet-query; do
    printf '#!/bin/sh\n' >"$root/usr/bin/$binary"
    chmod 755 "$root/usr/bin/$binary"
  done
}

services() { (cd "$units" && ls orderfleet-*.service | sed 's/@\.service/@9090.service/'); }

# Whatever systemd says is a mistake: it ignores unknown keys with a warning and exit code 0.
check() {
  local said drain
  drain=$(sed -n 's/^TimeoutStopSec=//p' "$units/orderfleet-.service.d/50-common.conf")
  [ "$drain" -gt 20 ] || { echo "TimeoutStopSec=$drain: a worker's drain may take 20 s"; return 1; }
  said=$(cd "$units" && systemd-analyze verify --man=no --root="$root" ./orderfleet.target $(services | sed 's|^|./|') 2>&1) || true
  [ -z "$said" ] || { printf '%s\n' "$said" | sed "s|$root||g" | sort -u; return 1; }
  said=$(systemd-analyze security --offline=true --no-pager --root="$root" --threshold=$exposure_max $(services) 2>&1) ||
    { grep 'Overall exposure' <<<"$said"; return 1; }
  grep 'Overall exposure' <<<"$said" | sed 's/^→ //'
}

planted() {
  local missed=0 mistake said
  # what it is|sed script|file
  while IFS='|' read -r mistake script file; do
    stage
    sed -i "$script" "$units/$file"
    if said=$(check); then echo "MISSED $mistake"; missed=1; else echo "found  $mistake: $(head -n 1 <<<"$said" | cut -c1-160)"; fi
  done <<'MISTAKES'
an unknown key|s/^Restart=/Restrat=/|orderfleet-.service.d/50-common.conf
a binary that is not there|s,/usr/bin/orderfleet-query,/usr/bin/orderfleet-qurey,|orderfleet-query.service
root|s/^DynamicUser=yes/User=root/|orderfleet-.service.d/50-common.conf
a file system that can be written|s/^ProtectSystem=strict/ProtectSystem=no/; s/^SystemCallFilter=.*//|orderfleet-.service.d/50-common.conf
SIGKILL during the drain|s/^TimeoutStopSec=.*/TimeoutStopSec=20/|orderfleet-.service.d/50-common.conf
MISTAKES
  return $missed
}

if [ "${1:-}" = --planted ]; then planted; else stage; check; fi
