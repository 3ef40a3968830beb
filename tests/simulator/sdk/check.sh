#!/usr/bin/env bash
# Lets OpenRouter's own SDKs judge the simulator. Needs python3, node and, once, the package registries.
# Usage: tests/simulator/sdk/check.sh [path of the built openrouter-simulator]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
simulator=${1:-"$root/target/debug/openrouter-simulator"}
node=$("$root/scripts/sdks" node)
python=$("$root/scripts/sdks" python)
work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid"; rm -rf "$work"' EXIT

# A module is looked for from where the program is.
cp "$here/check.mjs" "$work/"
ln -s "$node/node_modules" "$work/node_modules"

mkfifo "$work/announced"
"$simulator" >"$work/announced" &
pid=$!
{ read -r base_url && read -r management_key; } <"$work/announced"

"$python/bin/python" "$here/check.py" "$base_url" "$management_key"
node "$work/check.mjs" "$base_url" "$management_key"
