# The commands of daily work. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup build up test fmt lint doc check clean

# dev or release. A first dev build takes a third of the time and is fast enough for one machine.
PROFILE ?= dev
# Passed to `orderfleet up`, for example: make up ARGS='--workers 4'
ARGS ?=
# Tests wait for I/O most of the time, so more of them run than there are cores.
RUST_TEST_THREADS ?= 8
export RUST_TEST_THREADS

binaries := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: RabbitMQ, mongod
	@tools/setup.sh

build: ## Build everything (PROFILE=release for speed)
	cargo build --workspace --bins --locked --profile $(PROFILE)

up: setup build ## Run the whole fleet on this machine; Ctrl-C stops it, data stays in .orderfleet
	@exec $(binaries)/orderfleet up $(ARGS)

test: setup ## Run every test on a real broker and database
	cargo build --workspace --all-targets --locked
	$(or $(CARGO_TARGET_DIR),target)/debug/with-services cargo test --workspace --locked $(ARGS)

fmt: ## Format the code
	cargo fmt --all

lint: ## Lint, with warnings denied
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation
	cargo doc --workspace --no-deps --locked

check: ## Everything a change must pass: format, lints, docs, dependencies, tests
	@tools/check.sh
	@$(MAKE) --no-print-directory test

clean: ## Remove what was built; .orderfleet, the fleet's data, stays
	cargo clean
