"""What must be true of an overlay's resources beyond their schemas. Each rule takes all of them and yields what is wrong."""

import fnmatch
import re

FLEET, DATA = "orderfleet", "orderfleet-data"
WORKLOADS = ("Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob")
UID = 65532
DRAIN_S = {"worker": 20, "worker-canary": 20, "producer": 5 + 10, "query": 5 + 11}  # docs/OPERATIONS.md, "Processes"

# Secrets that people make (docs/DEPLOYMENT.md, "Kubernetes"); an overlay may generate them itself.
BROKER_USERS, DATABASE_USERS = ("producer", "worker", "signal", "operator", "setup"), ("worker", "query", "signal", "operator", "setup")
SECRETS = {
    FLEET: {"orderfleet-api-keys"} | {f"orderfleet-broker-{user}" for user in BROKER_USERS}
    | {f"orderfleet-database-{user}" for user in DATABASE_USERS},
    DATA: {f"broker-user-{user}" for user in BROKER_USERS} | {f"database-user-{user}" for user in DATABASE_USERS},
}


def name(resource):
    return f"{resource['kind']} {resource['metadata']['name']}"


def namespace(resource):
    return resource["metadata"].get("namespace", "default")


def of_kind(resources, *kinds):
    return [resource for resource in resources if resource["kind"] in kinds]


def workloads(resources):
    """(resource, labels of its pods, pod spec)"""
    for resource in of_kind(resources, *WORKLOADS):
        template = resource["spec"]["template"]
        yield resource, template["metadata"].get("labels", {}), template["spec"]


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def selects(selector, labels):
    """Whether a label selector chooses what has these labels. An empty one chooses everything."""
    def holds(expression):
        value, values = labels.get(expression["key"]), expression.get("values", [])
        return {"In": value in values, "NotIn": value not in values,
                "Exists": value is not None, "DoesNotExist": value is None}[expression["operator"]]
    return (all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
            and all(holds(expression) for expression in selector.get("matchExpressions", [])))


def restricted_pods(resources):
    """The profile `restricted` of the Pod Security Standards, a read-only root and no token on top of it."""
    for resource, _, pod in workloads(resources):
        where, security = name(resource), pod.get("securityContext", {})
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{where}: mounts a service account's token"
        if any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{where}: shares a namespace of its host"
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
            yield f"{where}: may run as root"
        if namespace(resource) == FLEET and security.get("runAsUser") != UID:
            yield f"{where}: does not run as user {UID}"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{where}: has no seccomp profile"
        for volume in pod.get("volumes", []):
            if not set(volume) & {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim"}:
                yield f"{where}: volume {volume['name']} is of a kind that is not allowed"
        for container in containers(pod):
            yield from restricted_container(f"{where}, container {container['name']}", container)


def restricted_container(where, container):
    security = container.get("securityContext", {})
    if security.get("privileged"):
        yield f"{where}: is privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: can write to its root file system"
    capabilities = security.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield f"{where}: has capabilities"
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield f"{where}: may run as root"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{where}: takes a port of its host"
    resources = container.get("resources", {})
    if not resources.get("requests", {}).get("cpu") or not resources.get("limits", {}).get("memory"):
        yield f"{where}: lacks a request for CPU or a limit of memory"


def namespaces_enforce(resources):
    wanted = {FLEET: "restricted", DATA: "baseline"}
    for space, level in wanted.items():
        labels = [r["metadata"].get("labels", {}) for r in of_kind(resources, "Namespace") if r["metadata"]["name"] == space]
        if [label.get("pod-security.kubernetes.io/enforce") for label in labels] != [level]:
            yield f"Namespace {space}: does not enforce the profile {level}"


def networks_closed(resources):
    """Default deny in the fleet's namespace, and a way to what each pod holds an address of."""
    policies = [policy for policy in of_kind(resources, "NetworkPolicy") if namespace(policy) == FLEET]
    for direction in ("Ingress", "Egress"):
        denies = [p for p in policies if p["spec"]["podSelector"] == {} and direction in p["spec"].get("policyTypes", [])
                  and not p["spec"].get(direction.lower())]
        if not denies:
            yield f"Namespace {FLEET}: no NetworkPolicy denies {direction.lower()} by default"
    for policy in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if any(not rule.get(peers) for rule in policy["spec"].get(direction, [])):
                yield f"{name(policy)}: {direction} is open to everybody"
    if not any(namespace(p) == DATA for p in of_kind(resources, "NetworkPolicy")):
        yield f"Namespace {DATA}: has no NetworkPolicy"
    for resource, labels, pod in workloads(resources):
        if namespace(resource) != FLEET:
            continue
        open_ports = {port["port"] for p in policies if selects(p["spec"]["podSelector"], labels)
                      for rule in p["spec"].get("egress", []) for port in rule.get("ports", [])}
        for volume, port in (("broker", 5672), ("database", 27017)):
            held = any(v.get("secret", {}).get("secretName", "").startswith(f"orderfleet-{volume}-") for v in pod.get("volumes", []))
            if held != (port in open_ports):
                yield f"{name(resource)}: {'no NetworkPolicy lets it' if held else 'a NetworkPolicy lets it needlessly'} reach port {port}"
        if 53 not in open_ports:
            yield f"{name(resource)}: no NetworkPolicy lets it ask for names"


def references_exist(resources):
    """What is named is there: ConfigMaps, Secrets, Services' pods, targets of scalers and budgets, probes' ports."""
    there = {(r["kind"], namespace(r), r["metadata"]["name"]) for r in resources}
    for resource, _, pod in workloads(resources):
        space, where = namespace(resource), name(resource)
        for kind, wanted in mentioned(pod):
            made_by_people = kind == "Secret" and wanted in SECRETS.get(space, set())
            if (kind, space, wanted) not in there and not made_by_people:
                yield f"{where}: there is no {kind} {wanted} in {space}"
        for container in containers(pod):
            ports = {port.get("name") for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for check in ("httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(check, {}).get("port")
                    if port is not None and port not in ports:
                        yield f"{where}: its {probe} asks a port {port} that it does not have"
    for user in of_kind(resources, "User"):
        secret = user["spec"]["importCredentialsSecret"]["name"]
        if secret not in SECRETS[DATA]:
            yield f"{name(user)}: nobody is told to make the Secret {secret}"
    for resource in of_kind(resources, "Service", "PodDisruptionBudget"):
        if resource["kind"] == "PodDisruptionBudget":
            selector = resource["spec"]["selector"]
        else:
            selector = {"matchLabels": resource["spec"]["selector"]}
        pods = [labels for owner, labels, _ in workloads(resources) if namespace(owner) == namespace(resource)]
        if not any(selects(selector, labels) for labels in pods) and not operated(resources, resource):
            yield f"{name(resource)}: selects no pods"
    for scaler in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if ("Deployment", namespace(scaler), target) not in there:
            yield f"{name(scaler)}: there is no Deployment {target}"


def operated(resources, resource):
    """Whether the pods are made by an operator for the resource of that name."""
    return any(r["metadata"]["name"] == resource["metadata"]["name"] for r in of_kind(resources, "RabbitmqCluster"))


def mentioned(pod):
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in containers(pod):
        for source in container.get("envFrom", []):
            yield from (("ConfigMap", source[ref]["name"]) for ref in source if ref == "configMapRef")
            yield from (("Secret", source[ref]["name"]) for ref in source if ref == "secretRef")
        for variable in container.get("env", []):
            if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", key["name"]


def fleet_runs_well(resources):
    """Replicas, probes, drains and budgets of the fleet's own Deployments."""
    budgets = of_kind(resources, "PodDisruptionBudget")
    scaled = {r["spec"]["scaleTargetRef"]["name"] for r in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject")}
    for resource, labels, pod in workloads(resources):
        if namespace(resource) != FLEET or resource["kind"] != "Deployment" or resource["metadata"]["name"] == "sandbox":
            continue
        where, short = name(resource), resource["metadata"]["name"]
        if short != "worker-canary" and not any(selects(b["spec"]["selector"], labels) for b in budgets):
            yield f"{where}: has no PodDisruptionBudget"
        if short in scaled and "replicas" in resource["spec"]:
            yield f"{where}: sets replicas, which its scaler is to decide"
        if pod.get("terminationGracePeriodSeconds", 30) <= DRAIN_S.get(short, 0):
            yield f"{where}: is killed before it has drained"
        [app] = pod["containers"]
        paths = {probe: app.get(probe, {}).get("httpGet", {}).get("path") for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        if paths != {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}:
            yield f"{where}: its probes are {paths}"
        if short != "worker-canary" and not pod.get("topologySpreadConstraints"):
            yield f"{where}: its replicas may all be on one node"


def images_are_chosen(resources):
    for resource, _, pod in workloads(resources):
        for container in containers(pod):
            image, _, tag = container["image"].partition(":")
            if fnmatch.fnmatch(image, "orderfleet-*") or tag in ("", "latest"):
                yield f"{name(resource)}: nobody has said which image {container['image']} is"


def keda_asks_the_signal(resources):
    services = {f"http://{r['metadata']['name']}.{namespace(r)}.svc.cluster.local:{port['port']}"
                for r in of_kind(resources, "Service") for port in r["spec"]["ports"]}
    for scaled in of_kind(resources, "ScaledObject"):
        if not scaled["spec"].get("fallback", {}).get("replicas"):
            yield f"{name(scaled)}: an unknown signal may leave it without replicas"
        for trigger in scaled["spec"]["triggers"]:
            if not any(trigger["metadata"].get("url") == f"{service}/signal" for service in services):
                yield f"{name(scaled)}: no Service is at {trigger['metadata'].get('url')}"
        bounds = f"{scaled['spec']['minReplicaCount']}..{scaled['spec']['maxReplicaCount']}"
        for resource, _, pod in workloads(resources):
            args = pod["containers"][0].get("args", [])
            if args[:2] == ["fleet", "signal"] and bounds not in args:
                yield f"{name(scaled)}: {name(resource)} counts on other bounds than {bounds}"


def monitors(resources):
    return of_kind(resources, "PodMonitor", "ServiceMonitor")


def endpoints(monitor):
    return monitor["spec"].get("podMetricsEndpoints", []) + monitor["spec"].get("endpoints", [])


def watched_pods(resources, monitor):
    """(name, labels) of what a monitor chooses: the pods of workloads, and those an operator makes of a RabbitmqCluster."""
    found = [(r["metadata"]["name"], labels, namespace(r)) for r, labels, _ in workloads(resources)]
    found += [(r["metadata"]["name"], {"app.kubernetes.io/name": r["metadata"]["name"], "app.kubernetes.io/component": "rabbitmq"},
               namespace(r)) for r in of_kind(resources, "RabbitmqCluster")]
    return [(pod, labels) for pod, labels, space in found
            if space == namespace(monitor) and selects(monitor["spec"]["selector"], labels)]


def jobs(resources):
    """The names under which Prometheus knows what it asks, as far as a monitor sets them."""
    for monitor in monitors(resources):
        rules = [rule for endpoint in endpoints(monitor) for rule in endpoint.get("relabelings", []) if rule.get("targetLabel") == "job"]
        for _, labels in watched_pods(resources, monitor):
            meta = {"__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9_]", "_", key): value for key, value in labels.items()}
            for rule in rules:
                value = ";".join(meta.get(label, "") for label in rule.get("sourceLabels", []))
                yield rule["replacement"].replace("$1", value)


def prometheus_finds_all(resources):
    if not monitors(resources):
        return
    watched = set()
    for monitor in monitors(resources):
        ports, wanted = [endpoint.get("port") for endpoint in endpoints(monitor)], ["admin" if namespace(monitor) == FLEET else "prometheus"]
        if ports != wanted:
            yield f"{name(monitor)}: asks {ports} and not {wanted}"
        found = {pod for pod, _ in watched_pods(resources, monitor)}
        if not found:
            yield f"{name(monitor)}: chooses nothing"
        watched |= found
    for resource in of_kind(resources, "Deployment"):
        if namespace(resource) == FLEET and resource["metadata"]["name"] not in watched | {"sandbox"}:
            yield f"{name(resource)}: Prometheus does not ask it"


RULES = [restricted_pods, namespaces_enforce, networks_closed, references_exist, fleet_runs_well, images_are_chosen,
         keda_asks_the_signal, prometheus_finds_all]


def findings(resources):
    return [finding for rule in RULES for finding in rule(resources)]
