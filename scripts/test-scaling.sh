#!/bin/sh
# Pods of the chart at full size: six workers, sixty tasks of twenty seconds, four workers taken away meanwhile.
#
# What `make test` runs with three workers and ten tasks of a second. Takes about seven minutes, most of them waiting;
# needs what the tests with containers need (root, dockerd).
set -eu

cd "$(dirname "$0")/.."
scripts/setup.sh --for-tests
MAESTRO_TEST_SCALE=full
export MAESTRO_TEST_SCALE
cargo test --locked --test chart -- --nocapture scaling
