.PHONY: run test count test-middleware test-gateway

# Builds tollgate and serves the rules in config/, with counters in memory: gRPC on port
# 8081, HTTP on port 8080.
run:
	tests/setup.sh build
	cargo build --release --locked
	TOLLGATE_CONFIG=config exec $${CARGO_TARGET_DIR:-target}/release/tollgate serve

# Installs the tools for the tests and runs all tests, with a real Redis and a real Envoy.
test:
	tests/setup.sh
	cargo test --locked --no-fail-fast

# Counts the instructions of a decision's parts, and fails if they are more than before: see
# benches/instructions.
count:
	tests/setup.sh count
	PATH="$$PWD/target/test-tools/gungraun/bin:$$PATH" \
		cargo bench --locked --package instructions

# Runs the examples of middleware in all languages. Needs Go and a JDK.
test-middleware:
	tests/setup.sh
	ALL_EXAMPLES=1 cargo test --locked --test integration middleware

# Runs tollgate behind a real Envoy Gateway, which is built from source once. Needs Go and
# bubblewrap.
test-gateway:
	tests/gateway/run.sh
