#!/bin/sh
# A container engine of the tests' own: a dockerd in a folder, and in network and mount namespaces, of its own.
#
#     engine.sh FOLDER LOCKS IDLE_SECONDS
#
# Runs until nobody has held LOCKS/users for so long, then ends the engine by its number and removes all that it
# made. While FOLDER/down exists the engine is down. What it says is in FOLDER/engine.log.
set -u

if [ "${MAESTRO_TEST_ENGINE_INSIDE:-}" != yes ]; then
    MAESTRO_TEST_ENGINE_INSIDE=yes
    export MAESTRO_TEST_ENGINE_INSIDE
    exec unshare --net --mount --propagation slave sh "$0" "$@"
fi

folder=$1 locks=$2 idle_seconds=$3
group=maestro-test-$$
engine=''
cd "$folder" || exit 1
ip link set lo up

engine_runs() { [ -n "$engine" ] && kill -0 "$engine" 2> /dev/null; }

start_engine() {
    rm -f pid
    dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        --host "unix://$folder/sock" --cgroup-parent "/$group" --shutdown-timeout 2 >> engine.log 2>&1 &
    engine=$!
}

# How many times a tenth of a second an engine may take to end.
ENDING_MAX=150
stop_engine() {
    engine_runs || return 0
    kill "$engine"
    waited=0
    while engine_runs; do
        [ "$waited" -ge "$ENDING_MAX" ] && kill -9 "$engine"
        waited=$((waited + 1))
        sleep 0.1
    done
    wait "$engine" 2> /dev/null
    engine=''
}

# What outlived the engine: its containerd and its shims name the folder on their command lines.
end_others() {
    for place in /proc/[0-9]*; do
        number=${place#/proc/}
        [ "$number" = "$$" ] && continue
        case $(tr '\0' ' ' 2> /dev/null < "$place/cmdline") in
            *containerd*"$folder/exec"*) kill -9 "$number" 2> /dev/null ;;
        esac
    done
}

remove_all() {
    stop_engine
    end_others
    # shellcheck disable=SC2013 # Mount points of the engine hold no spaces.
    for mounted in $(awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r); do
        umount -l "$mounted"
    done
    for controller in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -d "$controller/$group" ] && rmdir "$controller/$group" 2> /dev/null
    done
    cd /
    rm -rf "$folder"
    rm -rf "$locks"
}

start_engine
idle=0
while :; do
    sleep 1
    if [ -e down ]; then
        stop_engine
    elif ! engine_runs; then
        start_engine
    fi
    if flock --nonblock "$locks/users" true; then idle=$((idle + 1)); else idle=0; fi
    if [ "$idle" -gt "$idle_seconds" ]; then
        exec 9> "$locks/start"
        exec 8> "$locks/users"
        if flock --nonblock 9 && flock --nonblock 8; then
            remove_all
            exit 0
        fi
        exec 8>&- 9>&-
        idle=0
    fi
done
