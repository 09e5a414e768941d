#!/usr/bin/env bash
# Writes the passwords of a fleet in compose into compose/secrets: to run once before the first `docker compose up`.
#   compose/secrets.sh           makes what is missing; a second call changes nothing
#   ORDERFLEET_SECRETS           another folder, here and for compose
# To change one password, delete its line from secrets/passwords, run this again, and then `docker compose up -d
# --force-recreate` for rabbitmq, mongodb-setup and whoever has that password. API keys: `orderfleet keys new`, see README.md.
# The folder can be read by its owner alone; the files in it by everybody, because each container gets its own ones and
# reads them under a user of its own.
set -euo pipefail
umask 077
folder=${ORDERFLEET_SECRETS:-$(dirname "$0")/secrets}
mkdir -p "$folder"
cd "$folder"
touch passwords

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

password() {
  grep -q "^$1=" passwords || echo "$1=$(random)" >>passwords
  sed -n "s/^$1=//p" passwords
}

# Written into the file that is there: containers hold on to it, and would never see another one of its name.
put() {
  local file=$1 text; text=$(cat)
  [ -f "$file" ] && [ "$text" = "$(cat "$file")" ] && return
  touch "$file"
  chmod 644 "$file"
  printf '%s\n' "$text" >"$file"
}

for user in producer worker signal operator setup; do
  put "amqp-$user" <<<"amqp://$user:$(password "amqp-$user")@broker:5672/orderfleet"
done
for user in worker query signal operator setup; do
  put "mongodb-$user" <<<"mongodb://$user:$(password "mongodb-$user")@mongodb:27017/?authSource=admin"
done
put mongodb-users <<EOF
{ "worker": "$(password mongodb-worker)", "query": "$(password mongodb-query)", "signal": "$(password mongodb-signal)",
  "operator": "$(password mongodb-operator)", "setup": "$(password mongodb-setup)" }
EOF
put mongodb-key <<<"$(password mongodb-key)$(password mongodb-key-2)"
put erlang-cookie <<<"$(password erlang-cookie)"
put grafana <<<"$(password grafana)"

broker_user() { printf '{ "name": "%s", "password": "%s", "tags": "%s" }' "$1" "$(password "amqp-$1")" "${2:-}"; }
permission() { printf '{ "vhost": "orderfleet", "user": "%s", "configure": "%s", "write": "%s", "read": "%s" }' "$@"; }

# The rights of each process, as docs/OPERATIONS.md explains them. `signal` looks at queues, for which no right is needed;
# `doctor --management-url` wants the tag `monitoring`.
ours='^(orders(\\..*)?|amq\\.(gen-.*|default))$'
put rabbitmq-definitions <<EOF
{ "vhosts": [{ "name": "orderfleet" }],
  "users": [
    $(broker_user producer),
    $(broker_user worker),
    $(broker_user signal),
    $(broker_user operator monitoring),
    $(broker_user setup)],
  "permissions": [
    $(permission producer '^$' '^orders$' '^$'),
    $(permission worker '^$' '^orders(\\.(dlx|events|wait\\.[0-9]+[smh]))?$' \
      '^orders\\.(new\\.[0-9]+|retry|replay|compensate|quarantine|dead\\.[a-z0-9_-]+)$'),
    $(permission signal '^$' '^$' '^$'),
    $(permission operator "$ours" "$ours" "$ours"),
    $(permission setup "$ours" "$ours" "$ours")] }
EOF

[ -f keys.toml ] || : >keys.toml
chmod 644 keys.toml
echo "secrets: written to $folder" >&2
[ -s keys.toml ] || echo "secrets: there is no API key yet; README.md says how to make one" >&2
