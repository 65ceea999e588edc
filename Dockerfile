# The suite in a container: another libc than the machine's, no init, no
# network, and the capabilities that a container has. `ci/docker.sh` builds and
# runs it.
#
# The oldest Rust that is supported. Any Debian or Alpine image with a Rust and
# a C linker will do.
ARG BASE=rust:1.85-bookworm
FROM ${BASE}

WORKDIR /src/daemonize2

# First, since it changes least.
COPY ci/users.sh ci/users.sh
RUN sh ci/users.sh

# For the cases with logrotate(8), unless the base image has it.
RUN if command -v logrotate >/dev/null; then \
        :; \
    elif command -v apk >/dev/null; then \
        apk add logrotate; \
    else \
        apt-get -q update && \
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends logrotate; \
    fi

# Nobody debugs in here, and without it the build takes half the time and a
# quarter of the space.
ENV CARGO_PROFILE_DEV_DEBUG=0 \
    CARGO_INCREMENTAL=0

COPY . .

# Here, where there is a network; running the image needs none.
RUN sh ci/test.sh --build

ENV CARGO_NET_OFFLINE=true \
    DAEMONIZE2_PLATFORM=docker \
    PATH=/src/daemonize2/target/debug/examples:$PATH

CMD ["sh", "ci/test.sh"]
