#!/usr/bin/env bash
# Starts the profile `core` of compose/ for real, with images made on this machine, and checks it from outside: images are small
# and locked down; the same orders come to the same results as on a native fleet; workers are scaled 1 -> 4 -> 1 under load and
# nothing is lost; each user has the rights it needs and no others; nothing is left behind.
#   tools/docker.sh tools/test-compose.sh [BUILT]    programs of BUILT, target/debug unless given
#   ORDERFLEET_DATA     a shop export to post (.csv.gz); without one 1,500 generated orders
set -euo pipefail
[ -z "${ORDERFLEET_DATA:-}" ] || ORDERFLEET_DATA=$(realpath "$ORDERFLEET_DATA")
cd "$(dirname "$0")/.."

built=${1:-${CARGO_TARGET_DIR:-target}/debug}
ready_seconds_max=180
# Exit code of a list that is empty.
nothing_matched=4
# What testcontainers asks the engine for, whatever that says.
testcontainers_api=1.53
work=$(mktemp -d)
export ORDERFLEET_VERSION=test ORDERFLEET_SECRETS=$work/secrets COMPOSE_PROJECT_NAME=orderfleet-test-$$
# Any free port.
export ORDERFLEET_PRODUCER_LISTEN=127.0.0.1: ORDERFLEET_QUERY_LISTEN=127.0.0.1: ORDERFLEET_SANDBOX_LISTEN=127.0.0.1: \
  ORDERFLEET_SIGNAL_LISTEN=127.0.0.1:
orders=(--generate 1500)
[ -z "${ORDERFLEET_DATA:-}" ] || orders=("$ORDERFLEET_DATA")

say() { printf 'compose: %s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
compose() { (cd compose && docker-compose --progress quiet --env-file .env.local "$@"); }
cli() { compose run --rm -T cli "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

main() {
  trap clean_up EXIT
  tools/images.sh services
  tools/images.sh fleet "$built"
  images_are_locked_down
  run_natively
  start
  containers_are_locked_down
  same_results
  scaled_under_load
  rights
  nothing_is_lost
  stop
  servers_in_containers
  say "passed"
}

images_are_locked_down() {
  local image locked=(--rm --network none --read-only --cap-drop ALL --user 65532 --security-opt no-new-privileges)
  for image in producer worker query cli sandbox; do
    docker run "${locked[@]}" "orderfleet/$image:test" --version >/dev/null || fail "$image does not run locked down"
    ! docker run "${locked[@]}" --entrypoint /bin/sh "orderfleet/$image:test" -c true 2>/dev/null || fail "$image has a shell"
  done
  say "all images run with --read-only --cap-drop ALL --user 65532 --security-opt no-new-privileges, and hold no shell"
}

# The same orders on a fleet without containers, to compare with.
run_natively() {
  say "running the orders natively"
  "$built/orderfleet" up --dir "$work/native" --workers 1 --output json >"$work/native.json" 2>"$work/native.log" &
  local up=$!
  until [ -s "$work/native.json" ]; do
    kill -0 $up 2>/dev/null || { tail -n 20 "$work/native.log" >&2; fail "the native fleet does not start"; }
    sleep 0.2
  done
  "$built/orderfleet" load "${orders[@]}" --wait --output json --producer-url "$(field producer_url <"$work/native.json")" \
    --query-url "$(field query_url <"$work/native.json")" --api-key-file "$work/native/demo.key" >"$work/load.native" ||
    fail "the native load: $(cat "$work/load.native")"
  ledgers native "$(field sandbox_url <"$work/native.json")"
  kill -TERM $up
  wait $up || [ $? = 130 ] || fail "the native fleet did not end in order"
}

start() {
  compose/secrets.sh
  # The file is the host's user's, and so must be whoever appends to it.
  docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$ORDERFLEET_SECRETS:/secrets" orderfleet/cli:test \
    keys new --account demo --region eu1 --file /secrets/keys.toml >"$work/demo.key"
  say "starting the profile core"
  compose up --detach --scale worker=1 || { compose logs --tail 20 >&2; fail "the profile core does not start"; }
  local service
  for service in producer query worker sandbox signal; do healthy "$service" 1; done
  producer=http://$(compose port producer 8080) query=http://$(compose port query 8081) sandbox=http://$(compose port sandbox 7070)
}

# So many containers of a service, all healthy.
healthy() {
  local service=$1 count=$2 deadline=$((SECONDS + ready_seconds_max)) states
  until states=$(compose ps --format '{{.Health}}' "$service" | sort | uniq -c | awk '{ print $1 $2 }' | paste -sd ' ') &&
    [ "$states" = "${count}healthy" ]; do
    [ $SECONDS -lt $deadline ] || { compose logs --tail 20 "$service" >&2; fail "$service is not healthy: $states"; }
    sleep 0.3
  done
}

containers_are_locked_down() {
  local id
  for id in $(compose ps --quiet); do
    docker inspect --format '{{.Name}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.Config.User}}' "$id"
  done >"$work/inspected"
  ! grep -vE ' true \[ALL\] \[\] \[no-new-privileges:true\] (65532:65532|rabbitmq|mongodb)$' "$work/inspected" >&2 ||
    fail "these containers are not locked down"
  say "$(wc -l <"$work/inspected") containers run read-only, without capabilities and without root"
}

load() {
  "$built/orderfleet" load "$@" --wait --output json --producer-url "$producer" --query-url "$query" --api-key-file "$work/demo.key"
}

# What the services have done, as their ledgers sum it up.
ledgers() {
  local service
  for service in inventory fulfilment accounting; do
    curl --silent --show-error --fail --max-time 10 "$2/$service/summary" >"$work/$service.$1"
  done
}

same_results() {
  say "posting the same orders to the containers"
  load "${orders[@]}" >"$work/load.compose" || fail "the load: $(cat "$work/load.compose")"
  ledgers compose "$sandbox"
  python3 tools/compare-runs.py "$work" native compose || fail "results differ"
}

# Batches of the same orders under new keys, for as long as the scaling takes.
scaled_under_load() {
  say "scaling workers 1 -> 4 -> 1 under load"
  batches &
  local loading=$!
  first_batch_has_begun
  local count
  for count in 4 1; do
    compose up --detach --no-recreate --no-deps --scale worker=$count worker
    healthy worker $count
    kill -0 $loading || fail "the load ended before the scaling did"
    say "$count workers"
  done
  touch "$work/scaled"
  wait $loading || fail "orders were not ended: $(cat "$work"/batch-*)"
  say "$(cat "$work"/batch-* | python3 tools/compare-runs.py --sum) in $(ls "$work"/batch-* | wc -l) batches"
}

batches() {
  local batch=0
  until [ -e "$work/scaled" ]; do
    batch=$((batch + 1))
    load "${orders[@]}" --key-prefix "batch-$batch-" >"$work/batch-$batch" || return 1
  done
}

first_batch_has_begun() {
  local deadline=$((SECONDS + 60)) before now
  before=$(reserved)
  until now=$(reserved) && [ "$now" != "$before" ]; do
    [ $SECONDS -lt $deadline ] || fail "no order of the batches was begun"
    sleep 0.2
  done
}

reserved() { curl --silent --show-error --fail --max-time 10 "$sandbox/inventory/summary"; }

# Only while nothing is posted: `docker cp` fails for a file that grows meanwhile.
acceptances() {
  docker cp "$(compose ps --quiet producer):/var/lib/orderfleet/acceptance.log" - | tar --extract --to-stdout --file=-
}

# The operator may do all that doctor tries; the producer's user may publish orders, and neither tell other tales nor listen.
rights() {
  cli doctor >"$work/doctor" || { cat "$work/doctor" >&2; fail "doctor found errors"; }
  ! compose run --rm -T --volume "$ORDERFLEET_SECRETS/amqp-producer:/run/producer:ro" \
    --env ORDERFLEET_BROKER__URL_FILE=/run/producer cli doctor >/dev/null 2>&1 ||
    fail "doctor finds that the producer's user may do everything"
  compose logs --no-log-prefix rabbitmq | grep "refused for user 'producer'" >"$work/refused"
  local refused
  for refused in "write access to exchange 'orders.dlx'" "read access to queue 'orders.new.0'" "configure access to exchange 'orders'"; do
    grep --quiet "$refused" "$work/refused" || fail "the producer's user has $refused"
  done
  ! grep --quiet "write access to exchange 'orders'" "$work/refused" || fail "the producer's user may not publish orders"
  say "doctor finds no error; the producer's user may publish orders and nothing else"
}

# Also by a new container of the producer, which goes on with the log of the former one.
nothing_is_lost() {
  acceptances >"$work/acceptances"
  compose up --detach --no-deps --force-recreate producer
  healthy producer 1
  acceptances | cmp --silent - "$work/acceptances" || fail "the acceptance log did not outlive its container"
  cli audit /var/lib/orderfleet/acceptance.log --wait 60s >"$work/audit" || { cat "$work/audit" >&2; fail "the audit found orders lost"; }
  cat "$work/audit"
  local code=0
  cli dlq list >"$work/letters" 2>/dev/null || code=$?
  [ $code = "$nothing_matched" ] || { cat "$work/letters" >&2; fail "there are dead letters, or they cannot be seen: exit code $code"; }
  say "$(wc -l <"$work/acceptances") acceptances audited, nothing lost, no dead letter"
}

stop() {
  compose down --volumes --remove-orphans
  [ -z "$(docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")" ] ||
    fail "containers are left"
}

# The fleet without containers, on RabbitMQ 3.10 and MongoDB in containers.
servers_in_containers() {
  say "the fleet on broker and database in containers"
  local version docker_host=
  version=$(docker version --format '{{.Server.APIVersion}}')
  if ! printf '%s\n' "$testcontainers_api" "$version" | sort --version-sort --check=quiet; then
    coproc API { exec python3 tools/docker-api.py "$version"; }
    read -r docker_host <&"${API[0]}"
  fi
  env ${docker_host:+"DOCKER_HOST=$docker_host"} ORDERFLEET_RABBITMQ_IMAGE=orderfleet/rabbitmq:3.10-bookworm \
    ORDERFLEET_MONGODB_IMAGE=orderfleet/mongodb:6.0.5 \
    cargo test --quiet --locked --workspace --features orderfleet-tests/containers --test containers -- --ignored
}

clean_up() {
  local code=$?
  kill $(jobs -p) 2>/dev/null || true
  wait
  [ $code = 0 ] || compose logs --tail 5 >&2 || true
  compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$work"
}

main
