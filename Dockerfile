# One image per program: docker build --target producer|worker|query|cli|sandbox .
#
# Needs BuildKit, which leaves out the stages that a target does not use. Every base is an argument, so that images can also
# be built where no registry is to be had: tools/images.sh makes the bases from the machine's own packages and hands in
# programs that were built outside.

# Where the programs are built.
ARG BUILD_BASE=rust:1.95-slim-bookworm
# What they run on: libc6, libgcc-s1, certificates; no shell.
ARG RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot
# The stage or image that holds the programs, as tools/image-files.sh lays them out: build, unless they come from outside.
ARG PROGRAMS=build

# hadolint ignore=DL3006
FROM ${BUILD_BASE} AS build
ARG CARGO_AUDITABLE=0.7.7
ARG AUDITABLE2CDX=0.1.0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked --root /usr/local \
      "cargo-auditable@${CARGO_AUDITABLE}" "auditable2cdx@${AUDITABLE2CDX}"
WORKDIR /src
COPY . .
ARG REVISION=
# Paths are the same in every build, and dependencies are compiled once per machine: both folders outlive the build.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    ORDERFLEET_BUILD="${REVISION}" cargo auditable build --locked --release --bins \
      --package orderfleet-producer --package orderfleet-worker --package orderfleet-query \
      --package orderfleet --package orderfleet-sandbox \
 && tools/no-crash-points.sh target/release \
 && tools/image-files.sh target/release /out

# hadolint ignore=DL3006
FROM ${PROGRAMS} AS programs

# What debuggers want to know of the programs, kept apart: docker build --target symbols --output symbols .
FROM scratch AS symbols
COPY --from=programs /out/symbols/ /

# hadolint ignore=DL3006
FROM ${RUNTIME_BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
WORKDIR /

FROM runtime AS producer
LABEL org.opencontainers.image.title="orderfleet-producer" \
      org.opencontainers.image.description="Thin HTTP ingest: orders in, confirmed messages out"
COPY --from=programs /out/producer/ /
# Where a volume for the acceptance log is mounted, which takes its owner from here.
COPY --from=programs --chown=65532:65532 /out/state/ /var/lib/orderfleet/
ENV ORDERFLEET_PRODUCER__LISTEN=0.0.0.0:8080 ORDERFLEET_PRODUCER__ADMIN_LISTEN=0.0.0.0:9080
EXPOSE 8080 9080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/orderfleet-producer", "--probe", "alive"]
ENTRYPOINT ["/usr/local/bin/orderfleet-producer"]

FROM runtime AS worker
LABEL org.opencontainers.image.title="orderfleet-worker" \
      org.opencontainers.image.description="Stateless saga worker"
COPY --from=programs /out/worker/ /
ENV ORDERFLEET_WORKER__ADMIN_LISTEN=0.0.0.0:9090
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/orderfleet-worker", "--probe", "alive"]
ENTRYPOINT ["/usr/local/bin/orderfleet-worker"]

FROM runtime AS query
LABEL org.opencontainers.image.title="orderfleet-query" \
      org.opencontainers.image.description="Read side: where an order stands"
COPY --from=programs /out/query/ /
ENV ORDERFLEET_QUERY__LISTEN=0.0.0.0:8081 ORDERFLEET_QUERY__ADMIN_LISTEN=0.0.0.0:9081
EXPOSE 8081 9081
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/orderfleet-query", "--probe", "alive"]
ENTRYPOINT ["/usr/local/bin/orderfleet-query"]

# Ends with each command, so that nobody asks for its health; what serves the signal is asked by `orderfleet probe`.
FROM runtime AS cli
LABEL org.opencontainers.image.title="orderfleet" \
      org.opencontainers.image.description="The operator's and developer's commands, and the backlog signal"
COPY --from=programs /out/cli/ /
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/orderfleet"]

FROM runtime AS sandbox
LABEL org.opencontainers.image.title="orderfleet-sandbox" \
      org.opencontainers.image.description="Plays the shop's services: inventory, fulfilment, accounting"
COPY --from=programs /out/sandbox/ /
ENV ORDERFLEET_SANDBOX_LISTEN=0.0.0.0:7070
EXPOSE 7070
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/orderfleet-sandbox", "--probe"]
ENTRYPOINT ["/usr/local/bin/orderfleet-sandbox"]
