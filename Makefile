# The commands of daily work. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup build up test crash-points chaos model sim mutants mutants-fleet fmt lint doc check clean

# dev or release. A first dev build takes a third of the time and is fast enough for one machine.
PROFILE ?= dev
# Passed to `orderfleet up`, for example: make up ARGS='--workers 4'
ARGS ?=
# How often `make crash-points` hits each place on each way of an order.
ROUNDS ?= 30
# Seconds of load and faults of `make chaos`.
DURATION ?= 180
# Tests wait for I/O most of the time, so more of them run than there are cores.
RUST_TEST_THREADS ?= 8
export RUST_TEST_THREADS

binaries := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: RabbitMQ, mongod
	@tools/setup.sh

build: ## Build everything (PROFILE=release for speed)
	cargo build --workspace --bins --locked --profile $(PROFILE)
ifeq ($(PROFILE),release)
	@tools/no-crash-points.sh $(binaries)
endif

up: setup build ## Run the whole fleet on this machine; Ctrl-C stops it, data stays in .orderfleet
	@exec $(binaries)/orderfleet up $(ARGS)

test: setup ## Run every test on a real broker and database
	cargo build --workspace --all-targets --locked
	$(or $(CARGO_TARGET_DIR),target)/debug/with-services cargo test --workspace --locked $(ARGS)

crash-points: setup ## End processes between every effect and its record, by SIGKILL (ROUNDS=30)
	cargo build --workspace --all-targets --locked
	ORDERFLEET_CRASH_ROUNDS=$(ROUNDS) $(or $(CARGO_TARGET_DIR),target)/debug/with-services \
	  cargo test --locked -p orderfleet-tests --test it crash_points -- --nocapture

chaos: setup ## Harm the whole fleet under load and check its promise (DURATION=180 SEED=7 ARGS=…)
	cargo build --workspace --bins --locked --profile $(PROFILE)
	$(binaries)/orderfleet-chaos --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

model: ## Search every schedule of the saga core within large bounds (5 minutes, below 17 GB; STATES=… stops a scope early)
	cargo run --locked -p orderfleet-model -- search --full $(if $(STATES),--states-max $(STATES)) $(ARGS)

sim: ## Simulate orders in virtual time under every kind of fault (SEEDS=1000000)
	cargo run --locked -p orderfleet-model -- simulate --sagas $(or $(SEEDS),1000000) $(ARGS)

mutants: ## Break each rule of the saga core in turn, and see that it is caught
	cargo run --locked -p orderfleet-model --bin orderfleet-mutants -- $(ARGS)

mutants-fleet: setup ## Run the whole fleet with each of three rules broken, and see that the checker notices
	cargo build --workspace --bins --locked
	tools/mutants-fleet.sh

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
