# The binary and the example rules, with an unprivileged user.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# CA certificates for outgoing TLS connections; debian:bookworm-slim has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
# The path of the binary in the image of envoyproxy/ratelimit.
RUN ln -s /usr/local/bin/tollgate /bin/ratelimit
COPY config /config
USER 65534:65534
EXPOSE 8080 8081 6070
ENTRYPOINT ["/usr/local/bin/tollgate"]
