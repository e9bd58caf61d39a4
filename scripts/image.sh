#!/bin/sh
# Makes Maestro's image without any public image: a binary of this machine, the libraries it needs, a user.
#
#     scripts/image.sh maestro:local
#
#     --binary PATH     this binary; by default target/release/maestro, which is built if it is missing
#     --busybox PATH    also a shell and its programs, from a static busybox: for agents that need a shell
#     --also PATH       also this program with its libraries, beside maestro (repeatable)
#
# The image runs where the C library of this machine runs. `docker build .` makes one that runs everywhere, and is
# smaller, where public images can be had. Prints name and size of the image.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
binary=''
busybox=''
also=''
tag=''
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$2; shift ;;
        --busybox) busybox=$2; shift ;;
        --also) also="$also $2"; shift ;;
        -*) printf 'image: unknown word %s, expected --binary, --busybox or --also\n' "$1" >&2; exit 2 ;;
        *) tag=$1 ;;
    esac
    shift
done
if [ -z "$tag" ]; then
    printf 'image: expected the name of the image, such as maestro:local\n' >&2
    exit 2
fi
if [ -z "$binary" ]; then
    binary=$top/target/release/maestro
    [ -x "$binary" ] || (cd "$top" && cargo build --release --locked)
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 130' INT TERM
root=$context/rootfs
mkdir -p "$root/usr/local/bin" "$root/etc" "$root/tmp" "$root/var/lib/maestro"

# A program and each library that it is linked with, at the places where it looks for them.
place() {
    strip -o "$2" "$1" 2> /dev/null || cp "$1" "$2"
    chmod 755 "$2"
    { ldd "$1" 2> /dev/null || true; } | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        [ -e "$root$library" ] || cp -L "$library" "$root$library"
    done
}
place "$binary" "$root/usr/local/bin/maestro"
for program in $also; do place "$program" "$root/usr/local/bin/$(basename "$program")"; done
if [ -n "$busybox" ]; then
    mkdir -p "$root/bin"
    cp "$busybox" "$root/bin/busybox"
    for name in $("$busybox" --list); do
        [ "$name" = busybox ] || ln -s busybox "$root/bin/$name"
    done
fi
echo 'maestro:x:65532:65532::/tmp:/sbin/nologin' > "$root/etc/passwd"
echo 'maestro:x:65532:' > "$root/etc/group"
chmod 1777 "$root/tmp"
if [ "$(id -u)" -eq 0 ]; then chown 65532:65532 "$root/var/lib/maestro"; fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml" | head -1)
revision=$(git -C "$top" rev-parse HEAD 2> /dev/null || echo unknown)
# Without its newer builder `docker build` has to be told so.
if ! docker buildx version > /dev/null 2>&1; then
    DOCKER_BUILDKIT=0
    export DOCKER_BUILDKIT
fi
docker build --quiet --file "$top/Dockerfile" --target local --tag "$tag" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$context" > /dev/null
printf '%s %s MB\n' "$tag" "$(($(docker image inspect --format '{{.Size}}' "$tag") / 1000000))"
