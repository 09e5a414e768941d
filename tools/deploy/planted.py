"""Mistakes that the check of k8s/ must find: (what it is, words of the finding, how to make it)."""

OVERLAY = "staging"


def resource(resources, kind, name):
    return next(r for r in resources if r["kind"] == kind and r["metadata"]["name"] == name)


def pod(resources, deployment):
    return resource(resources, "Deployment", deployment)["spec"]["template"]["spec"]


def app(resources, deployment):
    return pod(resources, deployment)["containers"][0]


def drop(resources, kind, name):
    resources.remove(resource(resources, kind, name))


def spec(resources, kind, name):
    return resource(resources, kind, name)["spec"]


MISTAKES = [
    ("a privileged container", "is privileged", lambda r: app(r, "worker")["securityContext"].update(privileged=True)),
    ("a container that can write", "write to its root", lambda r: app(r, "producer")["securityContext"].pop("readOnlyRootFilesystem")),
    ("a capability", "has capabilities", lambda r: app(r, "query")["securityContext"]["capabilities"].update(add=["NET_RAW"])),
    ("another user", "does not run as user 65532", lambda r: pod(r, "signal")["securityContext"].update(runAsUser=1000)),
    ("an init container as root", "may run as root",
     lambda r: pod(r, "worker-canary")["initContainers"][0]["securityContext"].update(runAsUser=0)),
    ("a token of the Kubernetes API", "token", lambda r: pod(r, "worker").update(automountServiceAccountToken=True)),
    ("a folder of the host", "not allowed", lambda r: pod(r, "worker")["volumes"].append({"name": "h", "hostPath": {"path": "/"}})),
    ("a namespace that admits anything", "does not enforce",
     lambda r: resource(r, "Namespace", "orderfleet")["metadata"].pop("labels")),
    ("no default deny", "denies ingress by default", lambda r: drop(r, "NetworkPolicy", "default-deny")),
    ("no way to the database", "lets it reach port 27017", lambda r: drop(r, "NetworkPolicy", "to-database")),
    ("an open door", "open to everybody", lambda r: spec(r, "NetworkPolicy", "from-ingress")["ingress"][0].pop("from")),
    ("a producer that can reach the database", "needlessly reach port 27017",
     lambda r: resource(r, "Deployment", "producer")["spec"]["template"]["metadata"]["labels"].update({"reaches-database": "yes"})),
    ("an unknown field of a Deployment", "replica",
     lambda r: spec(r, "Deployment", "query").update(replica=3)),
    ("an unknown field of KEDA", "minReplicas", lambda r: spec(r, "ScaledObject", "worker").update(minReplicas=0)),
    ("a wrong type for KEDA", "'20' is not of type", lambda r: spec(r, "ScaledObject", "worker").update(maxReplicaCount="20")),
    ("an unknown fallback of KEDA", "keepReplicas", lambda r: spec(r, "ScaledObject", "worker")["fallback"].update(behavior="keepReplicas")),
    ("an unknown field of MongoDB", "shards", lambda r: spec(r, "PerconaServerMongoDB", "database").update(shards=2)),
    ("an unknown field of RabbitMQ", "replica_count", lambda r: spec(r, "RabbitmqCluster", "broker").update(replica_count=3)),
    ("a broker of two", "2 is not one of", lambda r: spec(r, "RabbitmqCluster", "broker").update(replicas=2)),
    ("an unknown field of a monitor", "intervall",
     lambda r: spec(r, "PodMonitor", "orderfleet")["podMetricsEndpoints"][0].update(intervall="1s")),
    ("an alert that differs", "differs from observability",
     lambda r: spec(r, "PrometheusRule", "orderfleet")["groups"][-1]["rules"][0].update(expr="vector(0)")),
    ("no fallback while the signal is unknown", "without replicas", lambda r: spec(r, "ScaledObject", "worker").pop("fallback")),
    ("other bounds than the signal's", "counts on other bounds", lambda r: spec(r, "ScaledObject", "worker").update(maxReplicaCount=30)),
    ("another port of the signal", "no Service is at", lambda r: spec(r, "Service", "signal")["ports"][0].update(port=9096)),
    ("replicas beside a scaler", "sets replicas", lambda r: spec(r, "Deployment", "worker").update(replicas=4)),
    ("SIGKILL during the drain", "before it has drained", lambda r: pod(r, "worker").update(terminationGracePeriodSeconds=20)),
    ("liveness by dependencies", "probes are", lambda r: app(r, "worker")["livenessProbe"]["httpGet"].update(path="/readyz")),
    ("no budget for disruptions", "no PodDisruptionBudget", lambda r: drop(r, "PodDisruptionBudget", "producer")),
    ("a secret nobody makes", "no Secret orderfleet-brokers",
     lambda r: pod(r, "worker")["volumes"][-1]["secret"].update(secretName="orderfleet-brokers")),
    ("an image nobody has chosen", "which image", lambda r: app(r, "worker").update(image="orderfleet-worker")),
    ("a job of another name", "no monitor makes the job orderfleet-signal",
     lambda r: spec(r, "ServiceMonitor", "signal")["endpoints"][0].pop("relabelings")),
    ("a broker that Prometheus does not ask", "no monitor makes a job rabbitmq", lambda r: drop(r, "PodMonitor", "broker")),
    ("a process that Prometheus does not ask", "Prometheus does not ask it", lambda r: drop(r, "ServiceMonitor", "signal")),
]
