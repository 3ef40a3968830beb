#!/usr/bin/env bash
# Lets OpenRouter's own SDKs judge the simulator: every management call, and every error that they have a class
# for. Prints a table; fails if an SDK makes something else of an answer than it should.
# Usage: tests/simulator/sdk/check.sh [--simulator PROGRAM] [node|python]…
# Needs Node.js, Python and, once, their package registries; exit 3 and one sentence where that is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
simulator=${CARGO_TARGET_DIR:-$root/target}/debug/openrouter-simulator
if [[ ${1:-} == --simulator ]]; then
  simulator=$2
  shift 2
fi
languages=("$@")
(($#)) || languages=(node python)

work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid"; rm -rf "$work"' EXIT

workspace=6f1c2a52-9a7e-4b6f-8a51-0d1e3c4b5a69
mkfifo "$work/announced"
"$simulator" --workspace "$workspace" >"$work/announced" &
pid=$!
{ read -r base_url && read -r management_key; } <"$work/announced"

run_node() {
  # A module is looked for from where the program is.
  cp "$here"/{check.mjs,cases.json} "$work/"
  ln -s "$1/node_modules" "$work/node_modules"
  node "$work/check.mjs" "$base_url" "$management_key" "$workspace"
}

run_python() {
  "$1/bin/python" "$here/check.py" "$base_url" "$management_key" "$workspace"
}

# The table, and how many rows are not as they should be.
judge() {
  awk -F'\t' -v sdk="$1" '
    { printf "%-7s %-8s %-25s %s\n", sdk, $1, $2, $4 }
    $3 != $4 { wrong++; printf "        ^ should be: %s\n", $3 }
    END { printf "%s: %d cases, %d not as they should be\n", sdk, NR, wrong; exit wrong > 0 || NR == 0 }'
}

status=0
for language in "${languages[@]}"; do
  installed=$("$root/scripts/sdks" "$language")
  "run_$language" "$installed" | judge "$language" || status=1
done
exit "$status"
