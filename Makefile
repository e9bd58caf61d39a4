# What there is to do here. Everything works as root without a terminal, on a clean clone, and sets up
# what it needs on a fresh Debian (or says exactly what is missing).

.PHONY: help demo test test-agents check build bench setup lint format

help:
	@echo 'make demo    run the workflow repo-audit on this repository and print its report'
	@echo 'make test    format, lints, all tests, documentation tests; lists what was skipped'
	@echo 'make test-agents  install the real agent programs and try them against a scripted model'
	@echo 'make check   the same, and dependencies against deny.toml'
	@echo 'make build   target/release/maestro'
	@echo 'make bench   measure this machine and print the table of the README'
	@echo 'make format  put every file into shape'

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test:
	@scripts/setup.sh --for-tests
	@scripts/test.sh

test-agents: setup
	@scripts/test-agents.sh

check:
	@scripts/setup.sh --for-tests
	@scripts/test.sh --with-dependencies

build: setup
	cargo build --release --locked

bench: build
	cargo build --release --locked -p maestro-worker --example bare_containers
	@bench/table.sh

format:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
