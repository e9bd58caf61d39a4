#!/bin/sh
# Runs the workflow repo-audit on this repository, on a private Redis, and prints its report.
#
# All that the run leaves behind lies in a folder of its own, which is removed; a process that is still
# there afterwards is an error.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
say() { printf '%s\n' "demo: $*" >&2; }

if ! git rev-parse -q --verify HEAD > /dev/null 2>&1; then
    say 'this folder is not a clone with a commit in it, and the audit is of a commit'
    exit 69
fi

say 'building'
cargo build --locked --quiet
maestro=${CARGO_TARGET_DIR:-$top/target}/debug/maestro

folder=$(mktemp -d "${TMPDIR:-/tmp}/maestro-demo.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

# Nothing of the user's own settings, clusters and data takes part.
mkdir -m 700 "$folder/run"
env_of_demo() {
    env -u MAESTRO_REDIS_URL -u MAESTRO_NAMESPACE -u MAESTRO_AGENTS_DIR \
        XDG_CONFIG_HOME="$folder/config" XDG_DATA_HOME="$folder/data" XDG_RUNTIME_DIR="$folder/run" \
        MAESTRO_WORKSPACE_ROOT="$folder/workspaces" "$@"
}

code=0
env_of_demo "$maestro" workflow run repo-audit --local --param repo="$top" --result report < /dev/null || code=$?
if [ "$code" -ne 0 ]; then
    say "the run ended with $code"
    exit "$code"
fi

# The folder's name is in the command line or the environment of everything that the run started.
left=''
for process in /proc/[0-9]*; do
    id=${process#/proc/}
    if [ "$id" -ne $$ ] && grep -q -a -s -F -e "$folder" "$process/cmdline" "$process/environ"; then
        left="$left $id ($(tr '\0' ' ' < "$process/cmdline" 2> /dev/null | cut -c 1-80))"
    fi
done
if [ -n "$left" ]; then
    say "still running:$left"
    exit 1
fi
