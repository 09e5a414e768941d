#!/usr/bin/env bash
# Runs one command of the CLI inside the cluster, as the operator's users of broker and database. Wants kubectl and jq.
#   k8s/cli.sh doctor
#   k8s/cli.sh audit - --since 24h < acceptances
#   ORDERFLEET_OPERATOR    whose name changes have in the operator log; default: who runs this
# The pod is made like those of the Deployment `signal`, so that admission takes it and the NetworkPolicies let it through; the
# command runs beside its own (what a pod says before `kubectl attach` is there would be lost). It is removed when the command has
# ended, whose exit code this has. A pod that was left behind is named cli-NUMBER.
set -euo pipefail

start_within=120s
name=cli-$$-$RANDOM

kubectl() { command kubectl --namespace orderfleet "$@"; }

pod=$(kubectl get deployment signal --output json | jq --arg name "$name" --arg operator "${ORDERFLEET_OPERATOR:-$(id -un)}" '{
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: $name,
      labels: { "reaches-broker": "yes", "reaches-database": "yes", "reaches-management": "yes" }
    },
    spec: (.spec.template.spec
      | del(.topologySpreadConstraints)
      | .restartPolicy = "Never"
      | (.volumes[].secret | values).secretName |= sub("-signal(-[a-z0-9]{10})?$"; "-operator")
      | .containers[0] |= (del(.ports, .startupProbe, .livenessProbe, .readinessProbe)
          | .resources.limits.memory = "512Mi"
          | .env += [{ name: "ORDERFLEET_OPERATOR", value: $operator }])) }')
trap 'kubectl delete pod "$name" --ignore-not-found --wait=false >/dev/null' EXIT
kubectl create --filename - <<<"$pod" >/dev/null
kubectl wait --for=condition=Ready --timeout="$start_within" "pod/$name" >/dev/null
kubectl exec --stdin "$name" -- /usr/local/bin/orderfleet "$@"
