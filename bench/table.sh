#!/bin/sh
# Measures this machine and prints the README's table: `maestro bench` on private clusters, and beside it,
# in turn, what the machine gives without Maestro. Each figure is the median of several rounds.
#
#     bench/table.sh [ROUNDS]     3 unless said
#
# Containers are measured on an engine of their own, where root can start one (dockerd, busybox); else those rows
# stay empty. Peers are not run here. Absolute figures wander by a third from run to run: compare ratios.
set -eu

ROUNDS=${1:-3}
LAUNCHES=2000
CONTAINERS=60
CONTAINERS_AT_ONE_TIME=4
# Tenths of a second until an engine answers, and until it has gone.
ENGINE_WAIT_MAX=600

top=$(cd "$(dirname "$0")/.." && pwd)
maestro=${CARGO_TARGET_DIR:-$top/target}/release/maestro
if [ ! -x "$maestro" ]; then
    echo 'bench: there is no target/release/maestro; hint: make bench' >&2
    exit 69
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/maestro-bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
mkdir -m 700 "$folder/run"
workspaces=$folder/workspaces
# Workspaces in memory as well, where there is such a place: ext4 makes folders several times slower for a
# while after many have been removed, which says more about the round before than about Maestro.
memory_folder=
if [ -w /dev/shm ]; then
    memory_folder=$(mktemp -d /dev/shm/maestro-bench.XXXXXX)
    trap 'rm -rf "$folder" "$memory_folder"' EXIT
fi

# bench NAME GRAPH TASKS AGENT [FLAG…]: one measurement on a private cluster, appended to NAME.
bench() {
    name=$1 graph=$2 tasks=$3 agent=$4
    shift 4
    env -u MAESTRO_REDIS_URL -u MAESTRO_NAMESPACE -u MAESTRO_AGENTS_DIR \
        XDG_CONFIG_HOME="$folder/config" XDG_DATA_HOME="$folder/data" XDG_RUNTIME_DIR="$folder/run" \
        MAESTRO_WORKSPACE_ROOT="$workspaces" \
        "$maestro" bench --graph "$graph" --tasks "$tasks" --agent "$agent" --format jsonl "$@" >> "$folder/$name"
}

# The engine of `tests/support/engine.sh`: it ends by itself once nobody holds its lock.
engine=
image='maestro-bench:1'
bare_containers=${CARGO_TARGET_DIR:-$top/target}/release/examples/bare_containers
has_all() { for word in "$@"; do command -v "$word" > /dev/null 2>&1 || return 1; done; }
start_engine() {
    [ "$(id -u)" -eq 0 ] && [ -x "$bare_containers" ] && has_all dockerd docker flock unshare ip busybox || return 0
    engine=$(mktemp -d "${TMPDIR:-/tmp}/maestro-bench-engine.XXXXXX")
    mkdir "$engine.locks"
    exec 7> "$engine.locks/users"
    flock --shared 7
    setsid --fork sh "$top/tests/support/engine.sh" "$engine" "$engine.locks" 1 > /dev/null 2>&1 7>&-
    waited=0
    until docker --host "unix://$engine/sock" version > /dev/null 2>&1; do
        waited=$((waited + 1))
        [ "$waited" -lt "$ENGINE_WAIT_MAX" ] || { echo 'bench: the container engine does not answer' >&2; exit 69; }
        sleep 0.1
    done
    mkdir -p "$folder/image/bin" "$folder/image/tmp"
    cp "$(command -v busybox)" "$folder/image/bin/true"
    tar -C "$folder/image" -c . | docker --host "unix://$engine/sock" import - "$image" > /dev/null
}
end_engine() {
    [ -n "$engine" ] || return 0
    exec 7>&-
    waited=0
    while [ -e "$engine" ] && [ "$waited" -lt "$ENGINE_WAIT_MAX" ]; do
        waited=$((waited + 1))
        sleep 0.1
    done
}

# Launches by xargs, as many in a second; %N is GNU date's.
bare() {
    begun=$(date +%s%N)
    seq "$LAUNCHES" | xargs -P 2 -n 1 /bin/true
    ended=$(date +%s%N)
    awk -v n="$LAUNCHES" -v ns="$((ended - begun))" 'BEGIN { printf "{\"tasks_per_second\":%.1f}\n", n / ns * 1e9 }' >> "$folder/bare"
}

start_engine
trap 'end_engine; rm -rf "$folder" "$memory_folder"' EXIT
round=0
while [ "$round" -lt "$ROUNDS" ]; do
    round=$((round + 1))
    echo "bench: round $round of $ROUNDS" >&2
    bench flat flat 50000 noop
    bench chain chain 500 noop
    bench fan fan 1002 noop
    bench layers layers 1000 noop
    bare
    if [ -n "$memory_folder" ]; then
        workspaces=$memory_folder
        bench memory flat "$LAUNCHES" process
        workspaces=$folder/workspaces
        bare
    fi
    bench process flat "$LAUNCHES" process
    if [ -n "$engine" ]; then
        DOCKER_HOST="unix://$engine/sock" MAESTRO_MAX_CONCURRENT=$CONTAINERS_AT_ONE_TIME \
            bench docker flat "$CONTAINERS" docker --image "$image"
        "$bare_containers" "$engine/sock" "$image" "$CONTAINERS" "$CONTAINERS_AT_ONE_TIME" >> "$folder/bare-docker"
    fi
done
end_engine

# median NAME FIELD [DIGITS]
median() {
    sed -n "s/.*\"$2\":\([0-9.eE+-]*\).*/\1/p" "$folder/$1" | sort -g |
        awk -v digits="${3:-0}" '{ value[NR] = $1 } END {
            if (!NR) { print "–"; exit }
            middle = NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2
            printf "%.*f\n", digits, middle }'
}

cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
redis=$(redis-server --version 2> /dev/null | sed -n 's/.* v=\([^ ]*\).*/Redis \1/p')
# ratio NAME [BARE]
ratio() {
    awk -v ours="$(median "$1" tasks_per_second)" -v bare="$(median "${2:-bare}" tasks_per_second)" \
        'BEGIN { if (ours + 0) printf "%.2f", bare ? ours / bare : 0; else print "–" }'
}
touch "$folder/memory" "$folder/docker" "$folder/bare-docker"

cat << TABLE
$("$maestro" --version), ${redis:-no redis-server}, $(nproc) × ${cpu:-unknown processor}, $memory, Linux $(uname -r); median of $ROUNDS rounds.

| what | measured |
|---|---|
| tasks that do nothing, one worker | $(median flat tasks_per_second)/s |
| … processor time per task: Redis, worker | $(median flat redis_cpu_us_per_task 1) µs, $(median flat worker_cpu_us_per_task 1) µs |
| … round trips to Redis per task | $(median flat roundtrips_per_task 2) |
| … memory in Redis of a waiting task with a 200-byte prompt | $(median flat waiting_bytes_per_task) bytes |
| submission of one run | $(median flat submitted_per_second) tasks/s |
| idle cluster: submission → start, p50, p99 | $(median flat start_p50_ms 2) ms, $(median flat start_p99_ms 2) ms |
| chain of 500 | $(median chain tasks_per_second)/s |
| … end of a task → start of the next, p50, p99 | $(median chain edge_p50_ms 2) ms, $(median chain edge_p99_ms 2) ms |
| 1 → 1,000 → 1 | $(median fan tasks_per_second)/s |
| 10 layers of 100, each task needs 3 of the layer before | $(median layers tasks_per_second)/s |
| tasks that launch \`/bin/true\`, workspaces in memory | $(median memory tasks_per_second)/s, $(ratio memory) of \`xargs -P2\` |
| … workspaces on the disk of \`/tmp\` | $(median process tasks_per_second)/s, $(ratio process) of \`xargs -P2\` |
| … \`xargs -P2\` with the same command, no workspace | $(median bare tasks_per_second)/s |
| tasks that run \`true\` in a container without a network, $CONTAINERS_AT_ONE_TIME at a time | $(median docker tasks_per_second 1)/s, $(ratio docker bare-docker) of the bare calls |
| … create, start, wait, remove through the API alone | $(median bare-docker tasks_per_second 1)/s |
TABLE
