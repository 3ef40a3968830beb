#!/usr/bin/env bash
# Checks the simulator with OpenRouter's own SDKs: every management call, and every error that they have
# a class for. Prints a table; fails if an SDK interprets an answer incorrectly. Then a property-based
# tester compares the simulator with OpenRouter's published document.
# Usage: tests/simulator/sdk/check.sh [--simulator PROGRAM] [node|python|contract]…
#   OPENROUTER_OPENAPI   OpenRouter's OpenAPI document, for `contract`; left out in all but name if it is not given
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
(($#)) || languages=(node python contract)

work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid"; rm -rf "$work"' EXIT

workspace=6f1c2a52-9a7e-4b6f-8a51-0d1e3c4b5a69
mkfifo "$work/announced"
"$simulator" --workspace "$workspace" >"$work/announced" &
pid=$!
{ read -r base_url && read -r management_key; } <"$work/announced"

run_node() {
  # A module is resolved from the program's folder.
  cp "$here"/{check.mjs,cases.json} "$work/"
  ln -s "$1/node_modules" "$work/node_modules"
  node "$work/check.mjs" "$base_url" "$management_key" "$workspace"
}

run_python() {
  "$1/bin/python" "$here/check.py" "$base_url" "$management_key" "$workspace"
}

# Installs schemathesis in the versions locked here, once, and prints its path.
install_contract() {
  local folder=${CARGO_TARGET_DIR:-$root/target}/sdks/contract
  mkdir -p "$folder"
  exec {lock}>"$folder.lock"
  flock "$lock"
  if ! cmp --silent "$here/contract.txt" "$folder.installed"; then
    if ! {
      python3 -m venv --clear "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --requirement "$here/contract.txt"
    } >"$folder.log" 2>&1; then
      echo "schemathesis could not be installed, see $folder.log" >&2
      return 3
    fi
    cp "$here/contract.txt" "$folder.installed"
  fi
  printf '%s\n' "$folder"
}

# Exits with 3 and one sentence if the document or the tester is missing.
run_contract() {
  local document=${OPENROUTER_OPENAPI:-} installed
  if [[ -z $document ]]; then
    echo "OPENROUTER_OPENAPI does not say where OpenRouter's OpenAPI document is" >&2
    return 3
  fi
  document=$(realpath -- "$document")
  installed=$(install_contract) || return
  # It reads its configuration and its hooks from the working directory, and stores examples there.
  mkdir "$work/simulator"
  cp -r "$here" "$work/simulator/sdk"
  cp "$here/../BEHAVIOR.md" "$work/simulator/"
  cd "$work/simulator/sdk"
  "$installed/bin/schemathesis" --config-file contract.toml run "$document" --url "$base_url" \
    --header "Authorization: Bearer $management_key" --no-color
}

# Prints the table and the number of wrong rows.
judge() {
  awk -F'\t' -v sdk="$1" '
    { printf "%-7s %-17s %-25s %s\n", sdk, $1, $2, $4 }
    $3 != $4 { wrong++; printf "        ^ should be: %s\n", $3 }
    END { printf "%s: %d cases, %d not as they should be\n", sdk, NR, wrong; exit wrong > 0 || NR == 0 }'
}

status=0
for language in "${languages[@]}"; do
  if [[ $language == contract ]]; then
    code=0
    (run_contract) || code=$?
    # If it is the only target, the caller reports that it is missing.
    if ((code == 3 && ${#languages[@]} > 1)); then
      echo "skipped: the contract tester" >&2
      code=0
    fi
    ((code == 0 || status)) || status=$code
    continue
  fi
  installed=$("$root/scripts/sdks" "$language")
  "run_$language" "$installed" | judge "$language" || status=1
done
exit "$status"
