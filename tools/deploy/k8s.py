"""Renders every overlay of k8s/ and checks it offline: schemas of Kubernetes and of the operators, then policy.py.

  k8s.py                 check; exit code 1 if anything is wrong, 3 if the operators' schemas cannot be had
  k8s.py --planted       plant mistakes in what was rendered and see that each is found
  k8s.py --write-rules   write components/monitoring/rules.yaml from observability/prometheus/alerts.yml
"""

import copy
import pathlib
import re
import subprocess
import sys
import tomllib

import jsonschema
import kubernetes_validate
import yaml

import crds
import planted
import policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
OVERLAYS = ["dev", "staging", "production", "region-eu", "region-us"]
REGIONS = ["region-eu", "region-us"]  # of one database cluster, each with a broker of its own
KUBERNETES = "1.33"  # the oldest that is checked against; preStop.sleep needs 1.30
ALERTS = ROOT / "observability/prometheus/alerts.yml"
PROMETHEUS = ROOT / "observability/prometheus/prometheus.yml"
RULES = ROOT / "k8s/components/monitoring/rules.yaml"


def render(overlay):
    command = ["kubectl", "kustomize", ROOT / "k8s/overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"{overlay}: kubectl kustomize: {done.stderr.strip()}")
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def schema_findings(resources, custom):
    for resource in resources:
        where, key = policy.name(resource), (resource["apiVersion"], resource["kind"])
        group = resource["apiVersion"].partition("/")[0]
        if key in custom:
            errors = jsonschema.Draft202012Validator(custom[key]).iter_errors(resource)
            yield from (f"{where}: {at(error)}: {error.message[:200]}" for error in errors)
        elif "." in group and not group.endswith("k8s.io"):
            yield f"{where}: there is no schema for {key[0]}"
        else:
            try:
                kubernetes_validate.validate(resource, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{where}: {at(error)}: {error.message[:200]}"
            except kubernetes_validate.SchemaNotFoundError:
                yield f"{where}: Kubernetes {KUBERNETES} knows no such resource"


def at(error):
    return ".".join(str(part) for part in error.path) or "top level"


def rules_resource():
    """The alert rules as the Prometheus operator wants them."""
    head = (
        "# Written by tools/check-deploy.sh --write-rules from observability/prometheus/alerts.yml: change that file.\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: orderfleet\n"
        "  namespace: orderfleet\n  labels:\n    app.kubernetes.io/part-of: orderfleet\nspec:\n"
    )
    groups = ALERTS.read_text()
    groups = groups[groups.index("groups:"):]
    return head + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


def rules_findings(resources):
    """The alerts of an overlay are those of observability/."""
    wanted = yaml.safe_load(ALERTS.read_text())
    for rule in policy.of_kind(resources, "PrometheusRule"):
        if rule["spec"] != wanted:
            yield f"{policy.name(rule)}: differs from {ALERTS.relative_to(ROOT)}; run tools/check-deploy.sh --write-rules"


def jobs_findings(resources):
    """Where there are monitors, jobs are named as in observability/, and each that an alert names is there."""
    if not policy.monitors(resources):
        return
    found = set(policy.jobs(resources))
    for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]:
        if job["job_name"] not in found:
            yield f"no monitor makes the job {job['job_name']} of {PROMETHEUS.relative_to(ROOT)}"
    for pattern in re.findall(r'\bjob=~?"([^"]+)"', ALERTS.read_text()):
        for job in pattern.split("|"):
            if not any(re.fullmatch(job, name) for name in found):
                yield f"no monitor makes a job {job}, which {ALERTS.relative_to(ROOT)} names"


def database(resources):
    """The name of the database that the settings of an overlay choose."""
    settings = next(it for it in policy.of_kind(resources, "ConfigMap") if it["metadata"]["name"].startswith("orderfleet-settings"))
    return tomllib.loads(settings["data"]["settings.toml"]).get("database", {}).get("name", "orderfleet")


def sharing_findings(databases):
    """Fleets with a broker each would take each other's orders in a database that they share."""
    for overlay, name in databases.items():
        others = [other for other in databases if other != overlay and databases[other] == name]
        if others:
            yield f"{overlay}: shares the database {name} with {', '.join(others)}, behind a broker of its own"


def findings(resources, custom):
    return [*schema_findings(resources, custom), *policy.findings(resources), *rules_findings(resources),
            *jobs_findings(resources)]


def check(custom):
    failed, databases = False, {}
    for overlay in OVERLAYS:
        resources = render(overlay)
        if overlay in REGIONS:
            databases[overlay] = database(resources)
        wrong = findings(resources, custom)
        failed |= bool(wrong)
        print(f"{overlay}: {len(resources)} resources, {len(wrong)} findings")
        for finding in wrong:
            print(f"  {finding}")
    for finding in sharing_findings(databases):
        failed = True
        print(finding)
    return not failed


def check_planted(custom):
    """Each planted mistake must be found, and by the words that name it."""
    missed = 0
    rendered = render(planted.OVERLAY)
    clean = findings(rendered, custom)
    for mistake, expected, plant in planted.MISTAKES:
        resources = copy.deepcopy(rendered)
        plant(resources)
        new = [finding for finding in findings(resources, custom) if finding not in clean]
        found = next((finding for finding in new if expected in finding), None)
        missed += found is None
        print(f"{'found ' if found else 'MISSED'} {mistake}: {found or new}")
    mistake, found = "a database that two regions share", next(sharing_findings(dict.fromkeys(REGIONS, "shop")), None)
    print(f"{'found ' if found else 'MISSED'} {mistake}: {found}")
    return missed == 0 and found is not None


def main(arguments):
    if arguments == ["--write-rules"]:
        RULES.write_text(rules_resource())
        return True
    try:
        custom = crds.schemas()
    except crds.Unavailable as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    return check_planted(custom) if arguments == ["--planted"] else check(custom)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
