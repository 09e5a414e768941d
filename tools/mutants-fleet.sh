#!/usr/bin/env bash
# Runs the whole fleet with workers that break one rule of the saga, one rule after the other, under lost replies and kills:
# the checker must catch each of them, and must find nothing wrong with the workers as they are.
#   tools/mutants-fleet.sh [SECONDS]      prints what was found and exits 0 only if all of that is so
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-40}
binaries=${CARGO_TARGET_DIR:-target}/debug
mutants="unknown-as-refused deferral-without-copy ack-before-confirm"

# Exit code 1 says that a promise was broken, 3 that the run proves nothing.
run() {
    worker=$("$binaries/orderfleet-mutants" --worker "$1")
    report=target/chaos/fleet-$1
    code=0
    "$binaries/orderfleet-chaos" --worker "$worker" --seed 7 --duration "$seconds" --fault-every 6 --drain-max 60 \
        --only 'kill worker,downstream lost-reply' --report "$report" >"$report.log" 2>&1 || code=$?
}

mkdir -p target/chaos
run none
if [ "$code" != 0 ]; then
    echo "without a mutant: exit code $code, see $report.log"
    exit 1
fi
echo "without a mutant: nothing lost, duplicated, half-done or unexpected"

caught=0
count=0
for mutant in $mutants; do
    count=$((count + 1))
    run "$mutant"
    if [ "$code" = 1 ]; then
        caught=$((caught + 1))
        echo "$mutant: caught"
        sed -n '/^not drained/p; /^lost/p; /^duplicated/p; /^half-done/p; /^unexpected/p' "$report/report.txt" | sed 's/^/  /'
        sed -n '/^broken promises/,$p' "$report/report.txt" | sed -n '2,4p' | cut -c 1-160
    else
        echo "$mutant: NOT CAUGHT, exit code $code, see $report.log"
    fi
done
echo "$caught/$count caught"
[ "$caught" = "$count" ]
