#!/bin/sh
# Installs the real agent programs for `make test-agents`: Claude Code, Codex, Gemini and Kilo.
#
# They go into a folder of their own, MAESTRO_TEST_AGENTS or target/agents, and nowhere else; what is there in
# the right version stays. The versions are those the adapters are tried with: a newer one is tried by changing
# it here and running `make test-agents`. Ends with 69 and says why if they cannot be had: no Node.js, no
# registry, no package for this machine.
set -eu

CLAUDE='@anthropic-ai/claude-code@2.1.329'
CODEX='@openai/codex@0.169.0'
GEMINI='@google/gemini-cli@0.61.0'
# The newest version whose package for Linux is there as well.
KILO='@kilocode/cli@7.7.7'
NODE_OLDEST_MAJOR=20
# A registry that does not answer is given up after this time.
INSTALL_SECONDS_MAX=600

top=$(cd "$(dirname "$0")/.." && pwd)
folder=${MAESTRO_TEST_AGENTS:-$top/target/agents}
wanted="$CLAUDE $CODEX $GEMINI $KILO"

say() { printf '%s\n' "agents: $*" >&2; }
give_up() { say "$*"; exit 69; }
has() { command -v "$1" > /dev/null 2>&1; }
node_major() { node --version 2> /dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }

if [ "$(cat "$folder/installed" 2> /dev/null || true)" = "$wanted" ]; then
    exit 0
fi

if ! has node || ! has npm; then
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        give_up "Node.js $NODE_OLDEST_MAJOR or newer and npm are not installed"
    fi
    say 'installing nodejs npm'
    export DEBIAN_FRONTEND=noninteractive
    { apt-get install -y -q --no-install-recommends nodejs npm || {
        apt-get update -q && apt-get install -y -q --no-install-recommends nodejs npm
    }; } < /dev/null >&2 || give_up 'nodejs and npm cannot be installed from the packages of this system'
fi
major=$(node_major)
if [ "${major:-0}" -lt "$NODE_OLDEST_MAJOR" ]; then
    give_up "found Node.js $(node --version), expected $NODE_OLDEST_MAJOR or newer"
fi

mkdir -p "$folder"
rm -f "$folder/installed"
printf '{"private": true}\n' > "$folder/package.json"
say "installing $wanted into $folder"
# shellcheck disable=SC2086 # A list of words on purpose.
timeout "$INSTALL_SECONDS_MAX" npm install --prefix "$folder" --no-audit --no-fund --loglevel=error $wanted \
    < /dev/null >&2 || give_up 'the registry of npm cannot be reached, or lacks a package'
for program in claude codex gemini kilo; do
    [ -x "$folder/node_modules/.bin/$program" ] || give_up "the package of $program brought no program"
done
printf '%s\n' "$wanted" > "$folder/installed"
