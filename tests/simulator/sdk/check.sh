#!/bin/sh
# Lets OpenRouter's own SDKs judge the simulator. Needs python3, node and, once, the package registries.
# Usage: tests/simulator/sdk/check.sh [path of the built openrouter-simulator]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
simulator=${1:-"$here/../../../target/debug/openrouter-simulator"}
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$work"' EXIT

python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet openrouter==1.3.84
cp "$here/check.mjs" "$work/"
(cd "$work" && npm install --silent --no-audit --no-fund @openrouter/sdk@1.3.19)

mkfifo "$work/announced"
"$simulator" >"$work/announced" &
pid=$!
{ read -r base_url && read -r management_key; } <"$work/announced"

"$work/python/bin/python" "$here/check.py" "$base_url" "$management_key"
node "$work/check.mjs" "$base_url" "$management_key"
