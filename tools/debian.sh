# Debian's packages and root file systems, for scripts that make images without a registry. To be sourced.
# shellcheck shell=bash

has() { command -v "$1" >/dev/null 2>&1; }

# Installs packages of this machine's distribution, and starts nothing of what they bring (Debian's policy-rc.d, 101 = not now).
install_packages() {
  local root=() failed='' own_policy='' policy=/usr/sbin/policy-rc.d log
  has apt-get || { echo "there is no apt-get to install $* with" >&2; return 1; }
  [ "$(id -u)" = 0 ] || root=(sudo)
  echo "installing $* (a minute)" >&2
  log=$(mktemp)
  [ -e $policy ] || { own_policy=$policy; printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null; "${root[@]}" chmod 755 $policy; }
  { "${root[@]}" apt-get update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
  } >"$log" 2>&1 || failed=1
  [ -z "$own_policy" ] || "${root[@]}" rm -f "$own_policy"
  [ -z "$failed" ] || tail -n 5 "$log" >&2
  rm -f "$log"
  [ -z "$failed" ]
}

# The mirror of $DEBIAN_MIRROR, else the one that this machine's apt uses, else Debian's own.
mirror() {
  local of_apt=
  [ -n "${DEBIAN_MIRROR:-}" ] || of_apt=$(apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1) || true
  echo "${DEBIAN_MIRROR:-${of_apt:-http://deb.debian.org/debian}}"
}

# Downloads packages of Debian 13 into the current folder, on a Debian of any age: an apt of its own, which verifies them.
debian_13_package() {
  local apt; apt=$(mktemp -d)
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$apt/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State=$apt/state"
    -o Dir::State::status=/dev/null -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=)
  local failed=
  { apt-get "${options[@]}" update && apt-get "${options[@]}" download "$@"; } >"$apt/log" 2>&1 || failed=1
  [ -z "$failed" ] || tail -n 5 "$apt/log" >&2
  rm -rf "$apt"
  [ -z "$failed" ]
}

# Makes the image orderfleet/debian:SUITE by debootstrap, unless it is there.
debian_image() {
  local suite=$1 root=()
  docker image inspect "orderfleet/debian:$suite" >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || root=(sudo)
  has debootstrap || install_packages debootstrap debian-archive-keyring || return 1
  local work; work=$(mktemp -d)
  echo "fetching Debian $suite from $(mirror) (a minute or two)" >&2
  local failed=
  "${root[@]}" debootstrap --force-check-gpg --variant=minbase "$suite" "$work/root" "$(mirror)" >"$work/log" 2>&1 || failed=1
  if [ -z "$failed" ]; then
    "${root[@]}" tar --directory "$work/root" --create --one-file-system . | docker import - "orderfleet/debian:$suite" >/dev/null
  else
    tail -n 15 "$work/log" >&2
  fi
  "${root[@]}" rm -rf --one-file-system "$work"
  [ -z "$failed" ]
}

# Makes an image of that suite's rabbitmq-server, unless it is there. A package that starts its service when installed would
# do so in the image: Debian's policy-rc.d (101 = not now).
rabbitmq_image() {
  local image=$1 suite=$2
  docker image inspect "$image" >/dev/null 2>&1 && return
  debian_image "$suite" || return 1
  echo "installing RabbitMQ into $image (a minute or two)" >&2
  docker build --quiet --network host --build-arg http_proxy --build-arg https_proxy --tag "$image" - >/dev/null <<DOCKERFILE
FROM orderfleet/debian:$suite
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends rabbitmq-server \
 && rm -rf /var/lib/apt/lists/*
ENV HOME=/var/lib/rabbitmq LC_ALL=C.UTF-8 RABBITMQ_LOGS=- ERL_MAX_PORTS=65536 PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["rabbitmq-server"]
DOCKERFILE
}
