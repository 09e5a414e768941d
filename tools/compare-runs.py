#!/usr/bin/env python3
"""Compares what the same orders came to on two fleets, or sums up several loads.

    compare-runs.py FOLDER NATIVE COMPOSE    reads FOLDER/load.NAME (orderfleet load --output json) and the sandbox's summaries
                                             FOLDER/{inventory,fulfilment,accounting}.NAME; prints a table; exits with 1 if
                                             a line differs
    compare-runs.py --sum < LOADS            adds up several results of orderfleet load; exits with 1 if an accepted order has
                                             not ended
"""

import json
import sys
from pathlib import Path

LOAD = ["posted", "accepted", "refused", "errors", "done", "undone", "held", "open", "conflict"]
# Repeated calls may differ from run to run; their effects may not.
CALLS_THAT_MAY_DIFFER = {"repeats", "tombstones", "stale_fence", "service"}


def facts(folder, name):
    load = json.loads((folder / f"load.{name}").read_text())
    found = {f"orders {key}": load[key] for key in LOAD}
    for service in ("inventory", "fulfilment", "accounting"):
        summary = json.loads((folder / f"{service}.{name}").read_text())
        found |= flat(service, {key: value for key, value in summary.items() if key not in CALLS_THAT_MAY_DIFFER})
    return found


def flat(prefix, value):
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: leaf for name, inner in sorted(value.items()) for key, leaf in flat(f"{prefix} {name}", inner).items()}


def compare(folder, names):
    runs = [facts(folder, name) for name in names]
    keys = [*runs[0], *(runs[1].keys() - runs[0].keys())]
    differing = sum(runs[0].get(key) != runs[1].get(key) for key in keys)
    print(f"{'':44}{names[0]:>14}{names[1]:>14}")
    for key in keys:
        values = [run.get(key, "-") for run in runs]
        print(f"{key:44}{values[0]!s:>14}{values[1]!s:>14}{'' if values[0] == values[1] else '   DIFFERS'}")
    print("equal" if differing == 0 else f"{differing} differ")
    return differing == 0 and runs[0]["orders done"] > 0 and runs[0]["orders open"] == 0


def add_up(loads):
    total = {key: sum(load[key] for load in loads) for key in LOAD}
    print(", ".join(f"{value} {key}" for key, value in total.items() if value or key in ("accepted", "done")))
    return total["accepted"] > 0 and total["accepted"] == total["done"] + total["undone"] and not total["errors"]


if __name__ == "__main__":
    if sys.argv[1:] == ["--sum"]:
        good = add_up([json.loads(line) for line in sys.stdin if line.strip()])
    else:
        good = compare(Path(sys.argv[1]), sys.argv[2:4])
    sys.exit(0 if good else 1)
