#!/usr/bin/env bash
# Checks what deploys the fleet, offline but for tools that are fetched once. Nothing is deployed.
#   tools/check-deploy.sh                all of it
#   tools/check-deploy.sh k8s systemd    these parts
#   tools/check-deploy.sh --planted      plants mistakes and sees that the parts find them
#   tools/check-deploy.sh --write-rules  writes k8s' alert rules from observability/prometheus/alerts.yml
# What is missing is fetched or, as root, installed. A part whose tools cannot be had says SKIPPED, and why; STRICT=1, as in
# .ci/run, makes that an error.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/debian.sh

say() { printf 'check-deploy: %s\n' "$*" >&2; }

skip() {
  say "$1: SKIPPED, $2"
  [ -z "${STRICT:-}" ]
}

# A Python with the pinned packages, made once for each version of their list.
python_tools() {
  local list=tools/deploy/requirements.txt folder
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet/deploy-tools-$(sha256sum <$list | head -c 16)
  if [ ! -x "$folder/bin/ready" ]; then
    rm -rf "$folder"
    python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv || return 1
    python3 -m venv "$folder" >&2 &&
      "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r $list >&2 &&
      ln -s python "$folder/bin/ready" || return 1
  fi
  printf '%s\n' "$folder/bin/python"
}

# kubectl of this machine; else Debian 13's, which needs no other part of it. That of Debian 12 is too old for these manifests.
provide_kubectl() {
  has kubectl && return
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/orderfleet/kubectl
  if ! "$folder/kubectl" version --client >/dev/null 2>&1; then
    say "fetching kubectl of Debian 13"
    local work; work=$(mktemp -d)
    mkdir -p "$folder"
    { (cd "$work" && debian_13_package kubectl) && dpkg-deb --extract "$work"/kubectl_*.deb "$work/root" &&
      mv "$work/root/usr/bin/kubectl" "$folder/kubectl"; } || { rm -rf "$work"; return 1; }
    rm -rf "$work"
  fi
  PATH=$folder:$PATH
  kubectl version --client >/dev/null 2>&1
}

k8s() {
  provide_kubectl || { skip k8s "there is no kubectl, nor can Debian's be fetched: https://kubernetes.io/docs/tasks/tools"; return; }
  has cargo || { skip k8s "there is no cargo, which fetches the operators' schemas"; return; }
  local python
  python=$(python_tools) || { skip k8s "the packages of tools/deploy/requirements.txt cannot be had (python3-venv, pip's index?)"; return; }
  local code=0
  PYTHONDONTWRITEBYTECODE=1 "$python" tools/deploy/k8s.py "$@" || code=$?
  [ $code -ne 3 ] || { skip k8s "the operators' schemas cannot be had"; return; }
  return $code
}

systemd() {
  has systemd-analyze || install_packages systemd || { skip systemd "there is no systemd-analyze, nor can systemd be installed"; return; }
  tools/deploy/systemd.sh "$@"
}

containers() {
  local python bin
  python=$(python_tools) || { skip containers "the packages of tools/deploy/requirements.txt cannot be had (python3-venv, pip's index?)"; return; }
  bin=$(dirname "$python")
  "$python" tools/deploy/compose.py "$@"
  [ "${1:-}" != --planted ] || { containers_planted "$bin"; return; }
  "$bin/hadolint" Dockerfile
  fits_schema "$bin" compose/compose.yaml
}

# As compose reads it where nothing is set: with each variable's default in its place.
fits_schema() {
  local folder code=0; folder=$(mktemp -d)
  sed 's/\${[A-Z_]*:-\([^}]*\)}/\1/g' "$2" >"$folder/compose.yaml"
  "$1/check-jsonschema" --builtin-schema vendor.compose-spec "$folder/compose.yaml" || code=$?
  rm -rf "$folder"
  return $code
}

# That the tools find anything at all.
containers_planted() {
  local folder; folder=$(mktemp -d)
  sed 's/^USER .*/RUN sudo true/' Dockerfile >"$folder/Dockerfile"
  sed '0,/read_only:/s//raed_only:/' compose/compose.yaml >"$folder/raed.yaml"
  local missed=
  "$1/hadolint" "$folder/Dockerfile" >/dev/null && missed=Dockerfile
  fits_schema "$1" "$folder/raed.yaml" >/dev/null && missed=compose.yaml
  rm -rf "$folder"
  [ -z "$missed" ] || { say "containers: a mistake planted in $missed was not found"; return 1; }
}

parts=(k8s systemd containers)
case ${1:-} in
  --write-rules) k8s --write-rules; exit ;;
  --planted) for part in "${parts[@]}"; do say "$part, with mistakes planted"; "$part" --planted; done; exit ;;
  -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit ;;
esac
[ $# -eq 0 ] || parts=("$@")
for part in "${parts[@]}"; do
  start=$SECONDS
  say "$part"
  "$part"
  say "$part: $((SECONDS - start)) s"
done
