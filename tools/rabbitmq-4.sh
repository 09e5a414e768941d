#!/usr/bin/env bash
# RabbitMQ 4.0 on a machine whose distribution has an older one: an image made locally from Debian 13, no image registry.
#   tools/rabbitmq-4.sh image    build the image if it is not there, print `export ORDERFLEET_RABBITMQ_IMAGE=…`; with it
#                                the tests and `with-services` start their brokers from that image
#   tools/rabbitmq-4.sh start    the same, and start one broker on free ports; print `export ORDERFLEET_AMQP_URL=…`
#   tools/rabbitmq-4.sh stop     remove every broker that `start` started, with its data
# Use: eval "$(tools/rabbitmq-4.sh image)". Exits with 3, having said why, where Docker is not to be had.
#   ORDERFLEET_RABBITMQ_IMAGE    the image's name; default below
#   DEBIAN_MIRROR                where Debian 13 comes from; default is the mirror this machine's apt uses for Debian
set -euo pipefail
. "$(dirname "$0")/debian.sh"

image=${ORDERFLEET_RABBITMQ_IMAGE:-orderfleet/rabbitmq:4.0-trixie}
label=orderfleet.rabbitmq-4
server=/usr/lib/rabbitmq/bin/rabbitmq-server
ctl=/usr/lib/rabbitmq/bin/rabbitmqctl
no_docker=3
start_seconds_max=90

say() { printf 'rabbitmq-4: %s\n' "$*" >&2; }
fail() { printf 'rabbitmq-4: %s\n' "$@" >&2; exit 1; }
require_docker() {
  local missing=
  has docker || missing="docker is not installed (Debian's package is docker.io)"
  [ -n "$missing" ] || docker info >/dev/null 2>&1 || missing="no Docker daemon answers; start it, for example: sudo dockerd"
  [ -z "$missing" ] && return
  say "skipped: $missing"
  say "without it nothing runs on RabbitMQ 4.0; everything still runs on the distribution's RabbitMQ"
  exit $no_docker
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port
  for port in $(shuf --input-range 20000-31999 --head-count 50); do
    listens "$port" || { echo "$port"; return; }
  done
  fail "found no free port"
}

# RabbitMQ opens its port when it is ready. Asking rabbitmqctl earlier can disturb the start: it would make the cookie.
await() {
  local deadline=$((SECONDS + start_seconds_max))
  until listens "$2"; do
    [ $SECONDS -lt $deadline ] && [ -n "$(docker ps --quiet --no-trunc --filter id="$1")" ] || return 1
    sleep 0.2
  done
}

# The host's network, because the broker's clients expect it on 127.0.0.1. Erlang reserves memory for as many ports as it
# may have file handles, and Docker can allow a billion: hence a limit of our own.
start() {
  local amqp epmd distribution loopback='-kernel inet_dist_use_interface {127,0,0,1}'
  amqp=$(free_port) epmd=$(free_port) distribution=$(free_port)
  local container
  container=$(docker run --detach --label $label --network host --env ERL_MAX_PORTS=65536 \
    --env HOME=/var/lib/rabbitmq --env LC_ALL=C.UTF-8 \
    --env ERL_EPMD_ADDRESS=127.0.0.1 --env ERL_EPMD_PORT="$epmd" \
    --env RABBITMQ_NODENAME=orderfleet@localhost --env RABBITMQ_DIST_PORT="$distribution" \
    --env RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 --env RABBITMQ_NODE_PORT="$amqp" \
    --env RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$loopback -rabbit dead_letter_worker_publisher_confirm_timeout 2000" \
    --env RABBITMQ_CTL_ERL_ARGS="$loopback" --env RABBITMQ_CTL_DIST_PORT_MIN=0 --env RABBITMQ_CTL_DIST_PORT_MAX=0 \
    --env RABBITMQ_LOGS=- "$image" $server)
  if ! await "$container" "$amqp"; then
    docker logs --tail 15 "$container" >&2
    docker rm --force "$container" >/dev/null
    fail "the broker did not start"
  fi
  say "$(docker exec "$container" $ctl version) runs in container ${container:0:12}; commands: docker exec ${container:0:12} $ctl list_queues"
  echo "export ORDERFLEET_AMQP_URL=amqp://guest:guest@127.0.0.1:$amqp/%2f"
}

stop() {
  local running
  mapfile -t running < <(docker ps --all --quiet --filter label=$label)
  [ ${#running[@]} = 0 ] || docker rm --force --volumes "${running[@]}" >/dev/null
  say "removed ${#running[@]}"
}

case ${1:-} in
  image) require_docker; rabbitmq_image "$image" trixie; echo "export ORDERFLEET_RABBITMQ_IMAGE=$image" ;;
  start) require_docker; rabbitmq_image "$image" trixie; start ;;
  stop) require_docker; stop ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
