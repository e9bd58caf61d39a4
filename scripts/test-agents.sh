#!/bin/sh
# Installs the real agent programs and runs the tests that launch them. Without them the tests are skipped, by
# name and reason, in the list of `make test`.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
mkdir -p target
MAESTRO_SKIPPED=$top/target/skipped.txt
export MAESTRO_SKIPPED

# Under nextest each test has a limit of its own; under cargo test both together have this one.
TESTS_SECONDS_MAX=600

touch "$MAESTRO_SKIPPED"
before=$(wc -l < "$MAESTRO_SKIPPED")
if why=$(scripts/agents.sh 2>&1); then
    started=$(date +%s)
    if cargo nextest --version > /dev/null 2>&1; then
        cargo nextest run --locked --test real_agents --ignore-default-filter --status-level pass
    else
        timeout "$TESTS_SECONDS_MAX" cargo test --locked --quiet --test real_agents -- --test-threads=1
    fi
    echo "agents: done in $(($(date +%s) - started)) s"
else
    reason=$(printf '%s\n' "$why" | sed -n 's/^agents: //p' | tail -n 1)
    printf 'agents: the real programs were not tried: %s\n' "${reason:-they cannot be installed}" >> "$MAESTRO_SKIPPED"
fi
after=$(wc -l < "$MAESTRO_SKIPPED")
if [ "$after" -gt "$before" ]; then
    echo "skipped: $((after - before))"
    tail -n "$((after - before))" "$MAESTRO_SKIPPED" | sed 's/^/  /'
fi
