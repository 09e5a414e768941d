#!/usr/bin/env python3
"""Checks compose/ for what a schema cannot say: every container is locked down and bounded, no password is in a file or in the
environment, whatever is waited for can be waited for, and the fleet's own images are built here and not pulled.

    compose.py              checks
    compose.py --planted    plants mistakes and sees that they are found
"""

import copy
import sys
from pathlib import Path

import yaml

COMPOSE = Path("compose/compose.yaml")
# Root for a moment, to give files to their owners.
GIVERS = {"rabbitmq-cookie", "mongodb-key"}


def problems(compose):
    services = compose["services"]
    for name, service in services.items():
        for problem in [*locked_down(name, service), *bounded(name, service), *waits(service, services), *secrets(service),
                        *built(service, services)]:
            yield f"{name}: {problem}"
    for name, secret in compose["secrets"].items():
        if not secret["file"].startswith("${ORDERFLEET_SECRETS"):
            yield f"secret {name}: not in the folder of secrets.sh"


def locked_down(name, service):
    if service.get("read_only") is not True:
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "it keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "it may gain privileges"
    if service.get("privileged") or (name not in GIVERS and service.get("cap_add")):
        yield "it has capabilities"
    if name not in GIVERS and str(service.get("user", "root")).split(":")[0] in ("root", "0"):
        yield "it runs as root"
    if name in GIVERS and service.get("network_mode") != "none":
        yield "it runs as root and has a network"
    if any(not str(port).startswith("${") or ":-127.0.0.1" not in port for port in service.get("ports", [])):
        yield "it is open to other machines unless told otherwise"


def ends(service):
    """A job, which at most is tried a few times."""
    return service.get("restart", "").split(":")[0] in ("no", "on-failure")


def bounded(name, service):
    if ends(service):
        return
    if "memory" not in service.get("deploy", {}).get("resources", {}).get("limits", {}):
        yield "it has no limit of memory"
    if "logging" not in service:
        yield "its log grows without end"
    if "build" in service and int(service.get("stop_grace_period", "10s").removesuffix("s")) <= 20:
        yield "it is killed while it drains"


def waits(service, services):
    for other, how in service.get("depends_on", {}).items():
        target = services.get(other)
        if target is None:
            yield f"it waits for {other}, which does not exist"
        elif how["condition"] == "service_healthy" and "healthcheck" not in target:
            yield f"it waits for the health of {other}, which nobody asks for"
        elif how["condition"] == "service_completed_successfully" and not ends(target):
            yield f"it waits for the end of {other}, which does not end"
        elif how["condition"] == "service_started" and "healthcheck" in target:
            yield f"it does not wait for the health of {other}"


def built(service, services):
    image = service["image"]
    if not image.startswith("${ORDERFLEET_REGISTRY:-orderfleet}/"):
        return
    if service.get("pull_policy") != "${ORDERFLEET_PULL_POLICY:-never}":
        yield f"{image} may be pulled, and be somebody else's"
    # core is what every project runs.
    profiles = {*service["profiles"], "core"}
    if not any(other["image"] == image and "build" in other and profiles & set(other["profiles"]) for other in services.values()):
        yield f"nobody in its profiles builds {image}"


def secrets(service):
    for variable, value in (service.get("environment") or {}).items():
        if "://" in str(value) and "@" in str(value):
            yield f"{variable} holds a password"
        if variable.endswith("PASSWORD"):
            yield f"{variable} is no file"


def planted(compose):
    def without(service, key):
        broken = copy.deepcopy(compose)
        del broken["services"][service][key]
        return broken

    def with_(service, **values):
        broken = copy.deepcopy(compose)
        broken["services"][service].update(values)
        return broken

    yield "writable root", without("worker", "read_only")
    yield "capabilities", without("rabbitmq", "cap_drop")
    yield "added capability", with_("producer", cap_add=["NET_ADMIN"])
    yield "root", with_("query", user="root")
    yield "new privileges", without("mongodb", "security_opt")
    yield "no memory limit", without("signal", "deploy")
    yield "short grace", with_("worker", stop_grace_period="10s")
    yield "open port", with_("sandbox", ports=["7070:7070"])
    yield "password", with_("worker", environment={"ORDERFLEET_AMQP_URL": "amqp://a:b@c"})
    yield "no health", without("rabbitmq", "healthcheck")
    yield "endless job", with_("topology", restart="always")
    yield "an image that nobody builds", without("signal", "build")
    only_tools = without("signal", "build")
    only_tools["services"]["cli"]["build"] = compose["services"]["signal"]["build"]
    yield "an image that only the tools build", only_tools
    yield "an image of somebody else", without("topology", "pull_policy")


def main():
    compose = yaml.safe_load(COMPOSE.read_text())
    if sys.argv[1:] == ["--planted"]:
        missed = [what for what, broken in planted(compose) if not list(problems(broken))]
        for what in missed:
            print(f"not found: {what}")
        return 1 if missed else 0
    found = list(problems(compose))
    for problem in found:
        print(f"compose/compose.yaml: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
