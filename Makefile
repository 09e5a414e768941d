# The commands of daily work. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup build up bench bench-quick test test-observability crash-points chaos burst rolling upgrade test-sharded model sim mutants mutants-fleet fmt lint doc check check-deploy images test-compose clean

# dev or release. A first dev build takes a third of the time and is fast enough for one machine.
PROFILE ?= dev
# Passed to `orderfleet up`, for example: make up ARGS='--workers 0..8'
ARGS ?=
# How often `make crash-points` hits each place on each way of an order.
ROUNDS ?= 30
# Seconds of load and faults of `make chaos`; of `make upgrade` where it is given.
DURATION ?= 180
# Tests wait for I/O most of the time, so more of them run than there are cores.
RUST_TEST_THREADS ?= 8
export RUST_TEST_THREADS

# The same everywhere, so that what everything depends on is compiled once. The test behind it runs in test-compose alone.
features := --features orderfleet-tests/containers

binaries := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: RabbitMQ, mongod
	@tools/setup.sh

build: ## Build everything (PROFILE=release for speed)
	cargo build --workspace $(features) --bins --locked --profile $(PROFILE)
ifeq ($(PROFILE),release)
	@tools/no-crash-points.sh $(binaries)
endif

up: setup build ## Run the whole fleet on this machine; Ctrl-C stops it, data stays in .orderfleet
	@exec $(binaries)/orderfleet up $(ARGS)

test: setup ## Run every test on a real broker and database
	cargo build --workspace $(features) --all-targets --locked
	$(or $(CARGO_TARGET_DIR),target)/debug/with-services cargo test --workspace $(features) --locked $(ARGS)

test-observability: ## Check dashboards and alerts on a loaded fleet with a real Prometheus (5 minutes)
	@tools/setup.sh prometheus
	cargo build --workspace $(features) --bins --locked
	cargo test --workspace $(features) --locked --test observability -- --include-ignored --nocapture --test-threads 1

crash-points: setup ## End processes between every effect and its record, by SIGKILL (ROUNDS=30)
	cargo build --workspace $(features) --all-targets --locked
	ORDERFLEET_CRASH_ROUNDS=$(ROUNDS) $(or $(CARGO_TARGET_DIR),target)/debug/with-services \
	  cargo test --locked -p orderfleet-tests --test it crash_points -- --nocapture

chaos: setup ## Harm the whole fleet under load and check its promise (DURATION=180 SEED=7 ARGS=…)
	cargo build --workspace $(features) --bins --locked --profile $(PROFILE)
	$(binaries)/orderfleet-chaos --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

burst: setup ## Time the first order after idling, and scale out and back in with a burst of 20,000 (PROFILE=release ARGS='--orders 5000')
	cargo build --workspace $(features) --bins --locked --profile $(PROFILE)
	$(binaries)/orderfleet-burst --folder $(or $(CARGO_TARGET_DIR),target)/burst $(ARGS)

bench: ## Measure the fleet beside what broker, database and services give without it (ORDERFLEET_DATA=export.csv.gz ARGS='--only e2e')
	@$(MAKE) --no-print-directory setup
	cargo build --workspace $(features) --locked --release $(addprefix --bin orderfleet-,bench bare producer worker sandbox)
	$(or $(CARGO_TARGET_DIR),target)/release/orderfleet-bench --folder $(or $(CARGO_TARGET_DIR),target)/bench \
	  $(if $(ORDERFLEET_DATA),--data '$(ORDERFLEET_DATA)') $(ARGS)

bench-quick: ## The main lines of it, in three minutes
	@$(MAKE) --no-print-directory bench ARGS='--quick $(ARGS)'

rolling: setup ## Send SIGTERM to half of the workers every 10 seconds under load (DURATION=300 SEED=7 ARGS=…)
	cargo build --workspace $(features) --bins --locked --profile $(PROFILE)
	$(binaries)/orderfleet-chaos --rolling 10 --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

upgrade: setup ## Upgrade a fleet under load, back half-way and on again (FROM=<git ref>; without it to a build with newer formats)
	DURATION=$(if $(filter command line,$(origin DURATION)),$(DURATION),60) tools/upgrade.sh $(FROM)

test-sharded: setup ## Run every test through a router, on a cluster of two shards; skipped where there is no mongos (ORDERFLEET_MONGOS=…, ORDERFLEET_MONGODB_IMAGE=…)
	cargo build --workspace $(features) --all-targets --locked
	$(or $(CARGO_TARGET_DIR),target)/debug/with-services --sharded cargo test --workspace $(features) --locked $(ARGS)

model: ## Search every schedule of the saga core within large bounds (5 minutes, below 17 GB; STATES=… stops a scope early)
	cargo run --locked -p orderfleet-model -- search --full $(if $(STATES),--states-max $(STATES)) $(ARGS)

sim: ## Simulate orders in virtual time under every kind of fault (SEEDS=1000000)
	cargo run --locked -p orderfleet-model -- simulate --sagas $(or $(SEEDS),1000000) $(ARGS)

mutants: ## Break each rule of the saga core in turn, and see that it is caught
	cargo run --locked -p orderfleet-model --bin orderfleet-mutants -- $(ARGS)

mutants-fleet: setup ## Run the whole fleet with each of three rules broken, and see that the checker notices
	cargo build --workspace $(features) --bins --locked
	tools/mutants-fleet.sh

fmt: ## Format the code
	cargo fmt --all

lint: ## Lint, with warnings denied
	cargo clippy --workspace $(features) --all-targets --locked -- -D warnings

doc: ## Build the documentation
	cargo doc --workspace --no-deps --locked

check: ## Everything a change must pass: format, lints, docs, dependencies, tests
	@tools/check.sh
	@$(MAKE) --no-print-directory test

images: ## Make the fleet's images from a release build, and print their sizes (Docker is installed if there is none)
	cargo auditable --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-auditable auditable2cdx
	cargo auditable build --locked --release --bins -p orderfleet-producer -p orderfleet-worker -p orderfleet-query \
	  -p orderfleet -p orderfleet-sandbox
	@tools/no-crash-points.sh $(or $(CARGO_TARGET_DIR),target)/release
	@tools/docker.sh tools/images.sh fleet || [ $$? = 3 ]

test-compose: setup ## Run compose/ for real, load it and scale it, and the fleet on containers of broker and database
	cargo build --workspace $(features) --all-targets --locked
	@tools/docker.sh tools/test-compose.sh $(or $(CARGO_TARGET_DIR),target)/debug || [ $$? = 3 ]

check-deploy: ## Check what deploys the fleet: manifests, units, alert rules (no cluster is needed)
	@tools/check-deploy.sh
	@tools/check-deploy.sh --planted

clean: ## Remove what was built; .orderfleet, the fleet's data, stays
	cargo clean
