#!/usr/bin/env bash
# Runs a command with a Docker engine and `docker-compose`: those of this machine, or, where there are none, Debian's, an
# engine then being started for as long as the command runs.
#   tools/docker.sh COMMAND …     for example: tools/docker.sh tools/test-compose.sh
# Exits with 3, having said why, where Docker is not to be had; otherwise as the command does.
#   DEBIAN_MIRROR                 where packages of Debian 13 come from; default is the mirror this machine's apt uses
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/debian.sh

no_docker=3
start_seconds_max=60
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet/docker
# Version 1, which Debian 12 has, knows neither profiles that depend on each other nor `!override`.
compose_version_min=2.24
root=(); [ "$(id -u)" = 0 ] || root=(sudo)

say() { printf 'docker: %s\n' "$*" >&2; }
skip() { say "SKIPPED: $*"; exit $no_docker; }

install_docker() {
  has dockerd || has docker || install_packages docker.io iptables || skip "there is no Docker, and it cannot be installed"
}

start_engine() {
  docker info >/dev/null 2>&1 && return
  has dockerd || skip "no Docker engine answers, and there is no dockerd to start"
  work=$(mktemp -d)
  trap stop_engine EXIT
  say "starting an engine"
  "${root[@]}" dockerd --pidfile "$work/pid" >"$work/log" 2>&1 &
  local deadline=$((SECONDS + start_seconds_max))
  until docker info >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ] || ! kill -0 $! 2>/dev/null; then
      tail -n 5 "$work/log" >&2
      skip "the Docker engine does not start here"
    fi
    sleep 0.3
  done
}

stop_engine() {
  [ ! -s "$work/pid" ] || "${root[@]}" kill "$(cat "$work/pid")"
  wait
  rm -rf "$work"
}

# `docker compose` where it is new enough; else the program that Debian 13 has, which needs no other part of Debian 13.
provide_compose() {
  mkdir -p "$cache"
  if docker compose version >/dev/null 2>&1 && new_enough "$(docker compose version --short)"; then
    printf '#!/bin/sh\nexec docker compose "$@"\n' >"$cache/docker-compose"
  elif ! [ -x "$cache/docker-compose" ] || ! "$cache/docker-compose" version >/dev/null 2>&1; then
    say "fetching docker-compose of Debian 13"
    local folder; folder=$(mktemp -d)
    (cd "$folder" && debian_13_package docker-compose) || { rm -rf "$folder"; skip "docker-compose cannot be fetched"; }
    dpkg-deb --extract "$folder"/docker-compose_*.deb "$folder/root"
    mv "$folder/root/usr/libexec/docker/cli-plugins/docker-compose" "$cache/docker-compose"
    rm -rf "$folder"
  fi
  chmod 755 "$cache/docker-compose"
}

new_enough() { printf '%s\n' "$compose_version_min" "${1#v}" | sort --version-sort --check=quiet; }

install_docker
start_engine
provide_compose
PATH=$cache:$PATH "$@"
