# Maestro's images. One binary, and the role is its argument: `docker run maestro worker start`.
#
#     docker build -t maestro:1.2.0 .                        the binary and nothing else, about 25 MB
#     docker build -t maestro:1.2.0-tools --target tools .   with git, a shell and certificates, for agents that need them
#     scripts/image.sh maestro:local                         no public image needed: a binary of this machine
#
# The user has a number and no rights; the root may be read-only. What is written: /tmp, and /var/lib/maestro.

# What all images say of themselves. First, since an older `docker build` makes every stage above its target.
FROM scratch AS base
ARG VERSION=1.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="maestro" \
      org.opencontainers.image.description="Runs fleets of command-line AI agents on many hosts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    MAESTRO_WORKSPACE_ROOT=/var/lib/maestro/workspaces \
    MAESTRO_SNAPSHOT_DIR=/var/lib/maestro/snapshots
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/maestro"]
CMD ["--help"]

# What scripts/image.sh has laid out: a binary of this machine with the libraries it needs.
FROM base AS local
COPY rootfs/ /

# From source, with the C library linked in.
FROM rust:1-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
    && mkdir -p /rootfs/usr/local/bin /rootfs/etc /rootfs/tmp /rootfs/var/lib/maestro \
    && strip -o /rootfs/usr/local/bin/maestro target/release/maestro \
    && echo 'maestro:x:65532:65532::/tmp:/sbin/nologin' > /rootfs/etc/passwd \
    && echo 'maestro:x:65532:' > /rootfs/etc/group \
    && chmod 1777 /rootfs/tmp \
    && chown 65532:65532 /rootfs/var/lib/maestro

FROM alpine:3.22 AS tools
RUN apk add --no-cache bash ca-certificates coreutils curl git jq openssh-client ripgrep \
    && addgroup -g 65532 maestro \
    && adduser -D -u 65532 -G maestro -h /tmp -s /bin/sh maestro \
    && mkdir -p /var/lib/maestro \
    && chown 65532:65532 /var/lib/maestro \
    && git config --system safe.directory '*'
COPY --from=build /rootfs/usr/local/bin/maestro /usr/local/bin/maestro
ENV HOME=/tmp \
    MAESTRO_WORKSPACE_ROOT=/var/lib/maestro/workspaces \
    MAESTRO_SNAPSHOT_DIR=/var/lib/maestro/snapshots
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/maestro"]
CMD ["--help"]

# The last one is what `docker build` makes.
FROM base AS maestro
COPY --from=build /rootfs/ /
