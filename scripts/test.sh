#!/bin/sh
# Format, lints, all tests, documentation tests; then a list of what was skipped, by name and reason.
#
#     --with-dependencies   also licences, advisories and sources of all dependencies (cargo deny)
#
# A test that cannot run on this machine appends one line `name: reason` to the file named by
# MAESTRO_SKIPPED and passes; nothing is skipped in silence.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
with_dependencies=no
for word in "$@"; do
    case $word in
        --with-dependencies) with_dependencies=yes ;;
        *) printf 'test: unknown word %s, expected --with-dependencies\n' "$word" >&2; exit 2 ;;
    esac
done

mkdir -p target
MAESTRO_SKIPPED=$top/target/skipped.txt
export MAESTRO_SKIPPED
: > "$MAESTRO_SKIPPED"
skip() { printf '%s\n' "$1" >> "$MAESTRO_SKIPPED"; }

# Under nextest every test has its own limit; under cargo test all of them together have this one.
TESTS_SECONDS_MAX=1500

started=$(date +%s)
part() { printf '\n== %s\n' "$*"; }
has_tool() { cargo "$1" --version > /dev/null 2>&1; }

# Only who builds again and again gains by what incremental builds keep, and that is gigabytes.
[ -d target/debug/incremental ] || export CARGO_INCREMENTAL=0

part 'format'
if has_tool fmt; then cargo fmt --all --check; else skip 'format: rustfmt is not installed'; fi

part 'build'
if has_tool nextest; then
    cargo nextest run --workspace --locked --no-run --cargo-quiet
else
    cargo test --workspace --locked --no-run --quiet
fi

# The lints are read beside the tests, which wait most of their time, and give way to them. A folder of their own,
# so that neither waits for the other's lock.
lints=''
if has_tool clippy; then
    CARGO_TARGET_DIR=target/lints nice -n 19 \
        cargo clippy --workspace --all-targets --locked --quiet -- -D warnings > target/lints.log 2>&1 &
    lints=$!
    trap 'kill "$lints" 2> /dev/null || true' EXIT
    trap 'exit 130' INT TERM
else
    skip 'lints: clippy is not installed'
fi

part 'tests'
failed=no
if has_tool nextest; then
    cargo nextest run --workspace --locked --no-fail-fast --status-level fail --final-status-level flaky || failed=yes
else
    echo 'cargo-nextest is not installed: the same tests run under cargo test.'
    # Without words for targets, so that examples are built as programs: some tests launch them.
    # Tests that start clusters of real processes are heavy; two at a time is what two cores bear.
    timeout "$TESTS_SECONDS_MAX" cargo test --workspace --locked --no-fail-fast --quiet -- --test-threads=2 || failed=yes
fi

if [ -n "$lints" ]; then
    part 'lints'
    if wait "$lints"; then echo 'none'; else cat target/lints.log; failed=yes; fi
    trap - EXIT INT TERM
fi
if [ "$failed" = yes ]; then
    echo 'test: see what failed above' >&2
    exit 1
fi

part 'documentation tests'
cargo test --workspace --doc --locked --quiet

part 'scripts'
if command -v shellcheck > /dev/null 2>&1; then
    shellcheck scripts/*.sh bench/*.sh .ci/run
else
    for script in scripts/*.sh bench/*.sh; do sh -n "$script"; done
    bash -n .ci/run
    skip 'scripts: shellcheck is not installed; only their syntax was checked'
fi

# The container engine of the tests ends by itself some time after its last user, and takes its folder along.
ENGINE_SECONDS_MAX=60
engine=${TMPDIR:-/tmp}/maestro-test-engine-$(id -u)
waited=0
while [ -e "$engine" ] && [ "$waited" -lt "$ENGINE_SECONDS_MAX" ]; do
    waited=$((waited + 1))
    sleep 1
done

if [ "$with_dependencies" = yes ]; then
    part 'dependencies'
    if has_tool deny; then cargo deny --locked check; else skip 'dependencies: cargo-deny is not installed'; fi
fi

part "all green in $(($(date +%s) - started)) s"
if [ -s "$MAESTRO_SKIPPED" ]; then
    echo "skipped: $(wc -l < "$MAESTRO_SKIPPED")"
    sort "$MAESTRO_SKIPPED" | sed 's/^/  /'
else
    echo 'skipped: nothing'
fi
