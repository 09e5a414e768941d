#!/usr/bin/env bash
# Runs the whole fleet with workers that break one rule of the saga, one rule after the other, under lost replies and kills:
# the checker must catch each of them by the kind of promise that the rule keeps, in a valid run, and must find nothing wrong
# with the workers as they are.
#   tools/mutants-fleet.sh [SECONDS]      prints what was found and exits 0 only if all of that is so
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-40}
binaries=${CARGO_TARGET_DIR:-target}/debug
# Each mutant, and the class of broken promises that it must be caught by.
mutants="unknown-as-refused:half-done deferral-without-copy:half-done ack-before-confirm:lost"

# Exit code 1 says that a promise was broken, 3 that the run proves nothing.
run() {
    worker=$("$binaries/orderfleet-mutants" --worker "$1")
    report=target/chaos/fleet-$1
    code=0
    "$binaries/orderfleet-chaos" --worker "$worker" --seed 7 --duration "$seconds" --fault-every 6 --drain-max 60 \
        --only 'kill worker,downstream lost-reply' --report "$report" >"$report.log" 2>&1 || code=$?
}

# How many promises of a class were broken.
broken() {
    awk -v class="$1" '$1 == class { print $2 }' "$report/report.txt"
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
for pair in $mutants; do
    mutant=${pair%%:*}
    class=${pair##*:}
    count=$((count + 1))
    run "$mutant"
    if [ "$code" != 1 ]; then
        echo "$mutant: NOT CAUGHT, exit code $code, see $report.log"
    elif grep -q '^invalid, because' "$report/report.txt"; then
        echo "$mutant: NOT CAUGHT, the run is invalid, see $report.log"
    elif [ "$(broken "$class")" -gt 0 ]; then
        caught=$((caught + 1))
        echo "$mutant: caught, $(broken "$class") $class"
        sed -n '/^not drained/p; /^lost/p; /^duplicated/p; /^half-done/p; /^unexpected/p' "$report/report.txt" | sed 's/^/  /'
        sed -n '/^broken promises/,$p' "$report/report.txt" | sed -n '2,4p' | cut -c 1-160
    else
        echo "$mutant: NOT CAUGHT as $class, see $report.log"
    fi
done
echo "$caught/$count caught"
[ "$caught" = "$count" ]
