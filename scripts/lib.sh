# Functions shared by the scripts in this directory. Sourced, never run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$root/$target

# Set by the scripts that start a server.
vault='' vault_pid='' simulator_pid=''

# shellcheck disable=SC2034 # the scripts that source this file use them
bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  # shellcheck disable=SC2034
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# note TEXT…: prints progress, on stderr so that it never mixes with results on stdout.
note() { printf '%s\n' "$*" >&2; }

# die TEXT…: prints one sentence and exits.
die() {
  printf '%s%s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# have COMMAND: whether the command can be run.
have() { command -v "$1" >/dev/null 2>&1; }

# older VERSION THAN: whether VERSION is lower than THAN.
older() { [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# need_rust: exits with one sentence that names everything missing for a build.
need_rust() {
  local missing=() needed found
  have cargo || missing+=('cargo (install Rust from https://rustup.rs)')
  have cc || have gcc || have clang || missing+=('a C compiler (cc, gcc or clang)')
  case ${#missing[@]} in
    0) ;;
    1) die "Missing: ${missing[0]}." ;;
    *) die "Missing: ${missing[0]} and ${missing[1]}." ;;
  esac
  needed=$(awk -F'"' '/^rust-version = / { print $2; exit }' "$root/Cargo.toml")
  found=$(cd "$root" && cargo --version | awk '{ sub("-.*", "", $2); print $2 }')
  ! older "$found" "$needed" || die "Rust $needed or newer is needed; this is Rust $found (update it with rustup)."
}

# need_go MODULE: exits with one sentence if no installed Go can build the module in this folder.
need_go() {
  local needed found
  needed=$(awk '$1 == "go" { print $2; exit }' "$1/go.mod")
  # A newer Go may download the version that the module names; asked in this folder, it reports that
  # version.
  found=$(cd "$1" && go env GOVERSION 2>/dev/null) || found=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
  found=${found#go}
  ! older "$found" "$needed" || die "Go $needed or newer is needed; this is Go $found (see https://go.dev/dl)."
}

# milliseconds: a clock for measuring, from bash itself.
milliseconds() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '%s\n' "$((now / 1000))"
}

# wait_until SECONDS COMMAND…: repeats the command until it succeeds; fails after SECONDS.
wait_until() {
  local deadline=$(($(milliseconds) + $1 * 1000))
  shift
  until "$@"; do
    (($(milliseconds) < deadline)) || return 1
    sleep 0.1
  done
}

# alive PID: whether the process exists and has not ended yet.
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

ended() { ! alive "$1"; }

# stop PID: asks the process to end, kills it after ten seconds, and waits for it.
stop() {
  alive "$1" || return 0
  kill -TERM "$1" 2>/dev/null || true
  wait_until 10 ended "$1" || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# children PID: the process ids of its children.
children() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# start LOG COMMAND…: runs the command in the background, unaffected by the terminal's Ctrl-C, so that
# this script decides the order of shutdown. Sets `started` to its process id.
start() {
  local log=$1
  shift
  set -m
  "$@" </dev/null >"$log" 2>&1 &
  started=$!
  set +m
}

# unset_vault_settings: the user's own Vault settings must not affect the throwaway server.
unset_vault_settings() {
  local name
  for name in "${!VAULT_@}"; do
    [[ $name == VAULT_BIN ]] || unset "$name"
  done
}

server_answers() { VAULT_ADDR=$1 "$vault" status >/dev/null 2>&1; }

# answers_or_ended PID ADDRESS: whether waiting is over.
answers_or_ended() { ended "$1" || server_answers "$2"; }

# start_vault PLUGIN DIRECTORY: starts a dev server that offers the plugin, with all its files under
# DIRECTORY. DIRECTORY has to be short: a unix socket's path is limited to 107 bytes.
start_vault() {
  mkdir -p "$2/plugins"
  cp "$1" "$2/plugins/"
  start_dev_server "$2" -dev-plugin-dir="$2/plugins"
}

# start_dev_server DIRECTORY ARGUMENT…: starts a dev server with these arguments on a free loopback
# port. Expects `vault`; sets `vault_pid`, VAULT_ADDR and VAULT_TOKEN.
start_dev_server() {
  local directory=$1 attempt port
  shift
  mkdir -p "$directory/tmp"
  for attempt in 1 2 3 4 5; do
    # The server cannot report a port chosen by the system. So a random port below the system's own
    # range is tried, and another one if it is taken.
    port=$((20000 + RANDOM % 12000))
    HOME=$directory TMPDIR=$directory/tmp start "$directory/vault.log" \
      "$vault" server -dev -dev-no-store-token -dev-root-token-id=root \
      -dev-listen-address="127.0.0.1:$port" "$@"
    vault_pid=$started
    wait_until 30 answers_or_ended "$vault_pid" "http://127.0.0.1:$port" || true
    if alive "$vault_pid"; then
      export VAULT_ADDR=http://127.0.0.1:$port VAULT_TOKEN=root
      server_answers "$VAULT_ADDR" && return 0
      stop "$vault_pid"
      break
    fi
    grep -q 'address already in use' "$directory/vault.log" || break
    note "Port $port was taken, trying another one (attempt $attempt)."
  done
  vault_pid=''
  tail -n 20 "$directory/vault.log" >&2
  die "The Vault server did not start; its last lines are above."
}

# start_simulator DIRECTORY: starts the OpenRouter simulator that Cargo has built, with its log in DIRECTORY.
# Sets `simulator_pid`, `api_url` and `management_key`.
start_simulator() {
  local log=$1/simulator.log
  management_key=sk-or-v1-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  start "$log" "$target/debug/openrouter-simulator" --listen 127.0.0.1:0 --management-key "$management_key"
  simulator_pid=$started
  wait_until 10 simulator_is_up "$log" || true
  api_url=$(head -n 1 "$log")
  if ended "$simulator_pid" || [[ $api_url != http* ]]; then
    cat "$log" >&2
    die "The OpenRouter simulator did not start; its output is above."
  fi
}
simulator_is_up() { ended "$simulator_pid" || [[ $(head -n 1 "$1") == http* ]]; }

# handshake CERTIFICATE COMMAND…: starts the plugin as a server does, with only TMPDIR in its
# environment in addition, and ends it after its handshake line. Sets `handshake_line`, and
# `handshake_time` to the microseconds until then.
handshake() {
  local certificate=$1 begun output pid
  shift
  handshake_line=''
  begun=${EPOCHREALTIME/[.,]/}
  exec {output}< <(
    exec env -i TMPDIR="${TMPDIR:-/tmp}" VAULT_BACKEND_PLUGIN=6669da05-b1c8-4f49-97d9-c8e5bed98e20 \
      PLUGIN_PROTOCOL_VERSIONS=5 PLUGIN_CLIENT_CERT="$certificate" "$@" 2>/dev/null
  )
  pid=$!
  read -r -u "$output" handshake_line || true
  # shellcheck disable=SC2034 # for the scripts that source this file
  handshake_time=$((${EPOCHREALTIME/[.,]/} - begun))
  stop "$pid"
  exec {output}<&-
  [[ $handshake_line == 1\|5\|unix\|* ]]
}
