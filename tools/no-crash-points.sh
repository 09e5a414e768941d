#!/usr/bin/env bash
# Fails if a release binary of a service can be made to crash on demand. Usage: tools/no-crash-points.sh FOLDER
set -euo pipefail

folder=$1
for program in orderfleet-producer orderfleet-worker; do
  if grep --quiet --text --extended-regexp 'ORDERFLEET_(CRASH_AT|CLOCK_FILE|ABORT_ON_SKU)|producer\.publish|worker\.insert|sweep\.postpone|park\.hold' "$folder/$program"; then
    echo "$folder/$program holds crash points: was it built with debug assertions?" >&2
    exit 1
  fi
done
