.PHONY: run test

# Serves config/ from memory: gRPC on 8081, HTTP on 8080.
run:
	tests/setup.sh build
	cargo build --release --locked
	TOLLGATE_CONFIG=config exec $${CARGO_TARGET_DIR:-target}/release/tollgate serve

# Everything there is, against a real Redis and a real Envoy.
test:
	tests/setup.sh
	cargo test --locked --no-fail-fast
