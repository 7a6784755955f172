# The binary and example rules, run by nobody.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# By whom servers of the other side of TLS are vouched for; this image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
RUN ln -s /usr/local/bin/tollgate /bin/ratelimit
COPY config /config
USER 65534:65534
EXPOSE 8080 8081 6070
ENTRYPOINT ["/usr/local/bin/tollgate"]
