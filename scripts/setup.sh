#!/bin/sh
# Installs what building and testing need and this machine lacks, or says what is missing.
#
# Needed: Rust 1.88 or newer, a C compiler to link with, git, and a Redis server (7.0 or newer) or Valkey.
# Only root on a Debian-like system can install; elsewhere the list of what is missing is the result.
# A Redis server installed here is not started and not enabled: Maestro runs private ones.
#
#     --for-tests   also what only tests want; where it cannot be installed, they count it as skipped
set -eu

for_tests=no
for word in "$@"; do
    case $word in
        --for-tests) for_tests=yes ;;
        *) printf 'setup: unknown word %s, expected --for-tests\n' "$word" >&2; exit 2 ;;
    esac
done

RUST_OLDEST_MINOR=88
REDIS_OLDEST_MAJOR=7

say() { printf '%s\n' "setup: $*" >&2; }

# The missing packages by their Debian names, and the same for people.
packages=''
missing=''
need() {
    packages="$packages $1"
    missing="$missing
  $2"
}

has() { command -v "$1" > /dev/null 2>&1; }

has git || need 'git ca-certificates' 'git'
has cc || need 'gcc libc6-dev' 'a C compiler named cc (Debian: gcc libc6-dev)'
has make || need make 'make'
has redis-server || has valkey-server || need redis-server 'redis-server 7.0 or newer, or valkey-server'

can_install() { [ "$(id -u)" -eq 0 ] && has apt-get; }
if [ "$for_tests" = yes ] && can_install; then
    has shellcheck || packages="$packages shellcheck"
    has curl || packages="$packages curl"
    has script || packages="$packages bsdutils"
    # A container engine of the tests' own, and all that is in its image.
    has dockerd || packages="$packages docker.io"
    has ip || packages="$packages iproute2"
    has busybox || packages="$packages busybox-static"
    # A file system that shares contents between files.
    has mkfs.xfs || packages="$packages xfsprogs"
    # The Helm library, the schemas of Kubernetes and the parser of Prometheus are Python packages.
    has python3 && python3 -c 'import venv, ensurepip' 2> /dev/null || packages="$packages python3 python3-venv"
fi

# A package may start its service while it is being installed; on Debian this file forbids it.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    ours=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        ours=yes
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # A list of words on purpose.
    apt-get install -y -q --no-install-recommends $packages < /dev/null >&2 || {
        # The lists of packages may be missing or old on a fresh machine.
        apt-get update -q < /dev/null >&2
        apt-get install -y -q --no-install-recommends $packages < /dev/null >&2
    }
    # Nor is it to start with the machine: this was asked for by a test, not by a person.
    case $packages in
        *redis-server*)
            if has systemctl; then systemctl disable redis-server > /dev/null 2>&1 || true; fi
            ;;
    esac
    case $packages in
        *docker.io*)
            if has systemctl; then
                systemctl disable docker.service docker.socket containerd.service > /dev/null 2>&1 || true
            fi
            ;;
    esac
    if [ "$ours" = yes ]; then
        rm -f "$policy"
        trap - EXIT INT TERM
    fi
}

if [ -n "$packages" ]; then
    if can_install; then
        say "installing$packages"
        install_packages
    else
        say "missing:$missing"
        say 'hint: install these, or run this as root on Debian, where it installs them itself'
        exit 69
    fi
fi

if ! has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    say "cargo is in $HOME/.cargo/bin but not in PATH"
    exit 69
fi
if ! has cargo; then
    say "missing: Rust 1.$RUST_OLDEST_MINOR or newer"
    say 'hint: https://rustup.rs'
    exit 69
fi
minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
if [ -n "$minor" ] && [ "$minor" -lt "$RUST_OLDEST_MINOR" ]; then
    say "found $(rustc --version), expected Rust 1.$RUST_OLDEST_MINOR or newer"
    exit 69
fi

if has redis-server; then
    major=$(redis-server --version | sed -n 's/.* v=\([0-9]*\)\..*/\1/p')
    if [ -n "$major" ] && [ "$major" -lt "$REDIS_OLDEST_MAJOR" ] && ! has valkey-server; then
        say "found redis-server $major, expected $REDIS_OLDEST_MAJOR.0 or newer"
        exit 69
    fi
fi

# Python packages that a folder of tests lists, in target/NAME-venv, from whatever index pip is configured to use.
# Made once; the copy of the list beside them says for which list.
python_tools() {
    name=$1 what=$2
    top=$(cd "$(dirname "$0")/.." && pwd)
    wanted=$top/tests/$name/requirements.txt
    folder=$top/target/$name-venv
    if cmp -s "$wanted" "$folder/requirements.txt"; then return 0; fi
    if ! has python3; then
        say "python3 is missing: there is no $what, and what needs it is not tested"
        return 0
    fi
    say "installing $what into target/$name-venv"
    rm -rf "$folder"
    mkdir -p "$top/target"
    if python3 -m venv "$folder" >&2 \
        && "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2; then
        cp "$wanted" "$folder/requirements.txt"
    else
        say "$what cannot be installed here, and what needs it is not tested"
        rm -rf "$folder"
    fi
}
if [ "$for_tests" = yes ]; then
    python_tools chart 'the Helm library and the schemas of Kubernetes'
    python_tools watching 'the parser of Prometheus'
fi
