#!/bin/sh
# Measures a snapshot and a restore on this machine beside `tar | pigz` on the same tree, in turn, and compares a hash
# of the tree before and after.
#
#     bench/snapshot.sh [FILES] [MIB] [WORKERS]     100000 files of 5,000 bytes, one of 1024 MiB, 1 worker, unless said
#
# The tree is this repository's own text over and over, in WORKERS folders. Ratios count: absolute figures wander.
# Memory is what each process had more at its peak than before the snapshot.
set -eu

FILES=${1:-100000}
MIB=${2:-1024}
WORKERS=${3:-1}
FILE_BYTES=5000
# Tenths of a second until the cluster is up.
UP_WAIT_MAX=300

top=$(cd "$(dirname "$0")/.." && pwd)
maestro=${MAESTRO:-${CARGO_TARGET_DIR:-$top/target}/release/maestro}
for needed in "$maestro" pigz tar sha256sum jq redis-cli; do
    if ! command -v "$needed" > /dev/null; then
        echo "bench: \`$needed\` is missing; hint: make bench, or install it" >&2
        exit 69
    fi
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/maestro-snapshot.XXXXXX")
up=
finish() {
    [ -z "$up" ] || kill "$up" 2> /dev/null || true
    [ -z "$up" ] || wait "$up" 2> /dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir -m 700 "$folder/run" "$folder/config" "$folder/data" "$folder/tree" "$folder/bare"
unset MAESTRO_REDIS_URL MAESTRO_NAMESPACE
export XDG_CONFIG_HOME="$folder/config" XDG_DATA_HOME="$folder/data" XDG_RUNTIME_DIR="$folder/run"
export MAESTRO_WORKSPACE_ROOT="$folder/root" MAESTRO_SNAPSHOT_DIR="$folder/snapshots" MAESTRO_AGENTS_DIR="$top/agents.d"

echo "bench: making $FILES files and $MIB MiB in $WORKERS folders" >&2
find "$top" -name target -prune -o -name .git -prune -o -type f \( -name '*.rs' -o -name '*.md' -o -name '*.lua' \) -print0 \
    | xargs -0 cat > "$folder/text"
text() { while cat "$folder/text" 2> /dev/null; do :; done; }
number=0
while [ "$number" -lt "$WORKERS" ]; do
    number=$((number + 1))
    part=$folder/tree/$number
    mkdir -p "$part/small"
    (cd "$part/small" && text | head -c $((FILES * FILE_BYTES / WORKERS)) | split -a 6 -b "$FILE_BYTES" -d -)
    text | head -c $((MIB * 1048576 / WORKERS)) > "$part/large"
done
bytes=$(du -sb --apparent-size "$folder/tree" | cut -f1)

# Names, kinds, modes, sizes, times and contents of all that is below.
tree_hash() {
    (cd "$1" && { find . -mindepth 2 -printf '%P %y %m %s %T@\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum; }) \
        | sha256sum | cut -d' ' -f1
}
# timed NAME COMMAND…: MB of the tree in a second, into $folder/NAME.
timed() {
    name=$1
    shift
    begun=$(date +%s%N)
    "$@" > /dev/null
    ended=$(date +%s%N)
    awk -v bytes="$bytes" -v ns="$((ended - begun))" 'BEGIN { printf "%.1f", bytes / ns * 1e3 }' > "$folder/$name.rate"
}
# Peak and present memory of a process, KiB.
peak() { awk '/^VmHWM/ { print $2 }' "/proc/$1/status"; }

"$maestro" up --workers "$WORKERS" > "$folder/up.log" 2>&1 &
up=$!
waited=0
until "$maestro" worker list --format json 2> /dev/null | jq -e "[.[] | select(.role == \"worker\")] | length == $WORKERS" > /dev/null; do
    waited=$((waited + 1))
    [ "$waited" -lt "$UP_WAIT_MAX" ] || { cat "$folder/up.log" >&2; exit 69; }
    sleep 0.1
done
number=0
for worker in $("$maestro" worker list --format json | jq -r '.[] | select(.role == "worker") | .name'); do
    number=$((number + 1))
    "$maestro" agent assign shell --to-workspace "$folder/tree/$number" --name "agent-$number" --worker "$worker" > /dev/null
done
redis=$(pgrep -P "$up" redis-server || pgrep -P "$up" valkey-server || echo "$up")
idle_up=$(peak "$up") idle_redis=$(peak "$redis")

before=$(tree_hash "$folder/tree")
bare_pack() { tar -C "$folder/tree" -c . | pigz > "$folder/bare.tgz"; }
bare_unpack() { pigz -dc "$folder/bare.tgz" | tar -C "$folder/bare" -x; }
timed bare-pack bare_pack
timed pack "$maestro" state snapshot --output "$folder/one.tar.gz" --freeze-deadline 1h
rm -rf "$folder/tree"/*/*
timed bare-unpack bare_unpack
timed unpack "$maestro" state restore "$folder/one.tar.gz" --no-safety-copy --yes
after=$(tree_hash "$folder/tree")

ratio() { awk -v a="$(cat "$folder/$1.rate")" -v b="$(cat "$folder/$2.rate")" 'BEGIN { printf "%.2f", a / b }'; }
size() { stat -c %s "$1"; }
echo "| $((bytes / 1000000)) MB, $FILES files, $WORKERS workers | MB/s | tar, pigz | ratio |"
echo '|---|---|---|---|'
echo "| snapshot | $(cat "$folder/pack.rate") | $(cat "$folder/bare-pack.rate") | $(ratio pack bare-pack) |"
echo "| restore, verified | $(cat "$folder/unpack.rate") | $(cat "$folder/bare-unpack.rate") | $(ratio unpack bare-unpack) |"
echo "| archive, MB | $(($(size "$folder/one.tar.gz") / 1000000)) | $(($(size "$folder/bare.tgz") / 1000000)) | |"
echo "| memory above idle, MiB: cluster, redis | $((($(peak "$up") - idle_up) / 1024)), $((($(peak "$redis") - idle_redis) / 1024)) | | |"
if [ "$before" != "$after" ]; then
    echo "bench: the tree is not what it was: $before, $after" >&2
    exit 1
fi
echo "bench: the tree is what it was: $before" >&2
