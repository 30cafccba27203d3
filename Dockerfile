# syntax=docker/dockerfile:1
# One static binary on an empty image. Build:  docker build -t switchback .
# Run:  docker run -p 8080:8080 -v "$PWD/switchback.toml:/etc/switchback/switchback.toml:ro" switchback

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends musl-tools \
    && rustup target add "$(uname -m)-unknown-linux-musl" \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# The manifest names the benchmarks, so they have to be there, though nothing of them is built.
COPY benches ./benches
COPY src ./src
# The caches hold what earlier builds compiled; the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    target="$(uname -m)-unknown-linux-musl" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
    && mkdir -p /image/usr/bin /image/var/lib/switchback \
    && cp "target/$target/release/switchback" /image/usr/bin/switchback

FROM scratch
COPY --from=build /image/usr /usr
# The state's folder, writable for the user below.
COPY --from=build --chown=65532:65532 /image/var/lib/switchback /var/lib/switchback
WORKDIR /var/lib/switchback
USER 65532:65532
EXPOSE 8080
# SIGTERM lets what is in flight end; give the container at least the file's shutdown deadline.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/bin/switchback", "health"]
ENTRYPOINT ["/usr/bin/switchback"]
CMD ["run", "-c", "/etc/switchback/switchback.toml"]
