#!/usr/bin/env bash
# Upgrades a fleet under load from an older build to a newer one, process by process: half of them, these back again, then all;
# services fail meanwhile, and people have failed orders run again with corrections. The checker of the chaos runs judges.
#   tools/upgrade.sh [next]     the older build is this one; the newer one is this with versions of messages and documents
#                               that the older does not know: what it writes must wait for it while it is away
#   tools/upgrade.sh REF        the older build is that of a commit, built in a worktree of its own (ten minutes once)
# Exits 0 only if nothing was lost, doubled or half-done, and every step has its evidence. Logs and report: target/chaos/upgrade.
#   DURATION=60     seconds of load
#   SEED=7          decides orders and failures
set -euo pipefail
cd "$(dirname "$0")/.."
from=${1:-next}
targets=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$targets/upgrade
report=target/chaos/upgrade
replaced="orderfleet-producer orderfleet-worker"
programs="$replaced orderfleet-query orderfleet-sandbox orderfleet-fault-proxy orderfleet-chaos"

say() { printf 'upgrade: %s\n' "$*" >&2; }

# With the features that the Makefile always has, or dependencies would be compiled again.
# shellcheck disable=SC2046,SC2086
build() {
    cargo build --workspace --features orderfleet-tests/containers --locked --quiet $(printf -- '--bin %s ' $programs) "$@"
}

# keep FOLDER PROGRAMS: what was built last.
keep() {
    mkdir -p "$1"
    # shellcheck disable=SC2086
    (cd "$targets/debug" && cp --remove-destination $2 "$1/")
}

this_and_next() {
    build
    keep "$work/this" "$replaced"
    say "building the next build"
    # Whatever comes of it, what everybody else uses is this build's again.
    trap build EXIT
    build --features orderfleet-domain/next-build
    keep "$work/next" "$programs"
    older=$work/this
    newer=$work/next
}

of_commit() {
    local commit tree=$work/tree
    commit=$(git rev-parse --verify "$from^{commit}")
    older=$work/of-$commit
    newer=$targets/debug
    build
    [ ! -x "$older/orderfleet-worker" ] || return 0
    say "building $commit"
    [ ! -d "$tree" ] || git worktree remove --force "$tree"
    git worktree add --quiet --detach "$tree" "$commit"
    trap 'git worktree remove --force "$work/tree"' EXIT
    (cd "$tree" && CARGO_TARGET_DIR=$work/target cargo build --locked --quiet --bin orderfleet-producer --bin orderfleet-worker)
    targets=$work/target keep "$older" "$replaced"
}

case $from in
    next) this_and_next ;;
    *) of_commit ;;
esac

say "from $older to $newer"
"$newer/orderfleet-chaos" --older "$older" --seed "${SEED:-7}" --duration "${DURATION:-60}" --fault-every 8 \
    --only 'downstream errors,downstream outage,downstream undo-errors' --report "$report"

# Without one the older build has never met what it does not know.
left=$(cat "$report"/worker-*.log | grep -c "a newer build's message waits" || true)
say "messages of the newer build that workers of the older one left to it: $left"
[ "$from" != next ] || [ "$left" -gt 0 ] || { say "none: this run proves nothing of it"; exit 3; }
