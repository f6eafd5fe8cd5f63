# Everything a person or a machine does with this project; CI calls the same targets. Each sets up what it needs first (tools/setup.sh).

.DEFAULT_GOAL := help
MINUTES ?= 10
MATRIX ?= full
.PHONY: help demo run build fake-wechat test scale lint matrix interop manifests monitoring soak bench fuzz mutants compose-test release clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## the plugin at work in a real Envoy, shown step by step (set-up included)
	@tools/setup.sh demo
	@tools/build.sh
	@cargo run --quiet --release -p support --bin demo

run: ## keep serving on port 10000: the real WeChat with WECHAT_APPID and WECHAT_SECRET set, else the fake one
	@tools/setup.sh run
	@tools/build.sh
	@cargo run --quiet --release -p support --bin demo -- --serve

build: ## dist/wechat-token.wasm and its SHA-256
	@tools/setup.sh build
	@tools/build.sh

fake-wechat: ## dist/fake-wechat, one static program for the compose file
	@tools/setup.sh build
	@tools/build-fake-wechat.sh

test: ## every test: unit, simulation, end to end on real Envoys
	@tools/setup.sh test
	@tools/build.sh
	@tools/build-variants.sh
	@tools/test.sh --workspace --features schema
	@$(MAKE) --no-print-directory scale

scale: ## a day of 10,000 Envoys on a virtual clock, and its figures
	@tools/setup.sh build
	@tools/test.sh --profile scale --test mesh scale -- --nocapture

matrix: ## the end-to-end tests on every Envoy version, concurrency and placement; MATRIX=more: what make test lacks of the pairs
	@tools/setup.sh matrix
	@tools/build.sh
	@tools/build-variants.sh
	@E2E_MATRIX=$(MATRIX) tools/test.sh --test e2e

interop: ## services with unmodified WeChat libraries (Java, Go, Python, Node) beside the mesh, on one Redis, and through it over https
	@tools/setup.sh interop
	@tools/build.sh
	@cargo run --quiet --release -p interop

monitoring: ## dashboard and alerts on a real Prometheus, through a scripted incident; UPDATE_DASHBOARD=1 writes dashboard and picture
	@tools/setup.sh monitoring
	@tools/build.sh
	@tools/build-variants.sh
	@tools/test.sh --features monitoring --test monitoring

manifests: ## the shipped Istio and Envoy Gateway files, read by the real control planes, at work in a real Envoy
	@tools/setup.sh manifests
	@tools/build.sh
	@tools/build-variants.sh
	@cargo run --quiet --release -p manifests

soak: ## load with random faults on a real Envoy: make soak MINUTES=60, SEED=… repeats a run's plan
	@tools/setup.sh soak
	@tools/build-variants.sh
	@cargo run --quiet --release -p soak -- --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: ## the side-by-side benchmark; writes benches/results/
	@tools/setup.sh bench
	@tools/build.sh
	@cargo run --quiet --release -p bench

fuzz: ## feed random input to everything that reads foreign bytes: make fuzz MINUTES=10
	@tools/setup.sh fuzz
	@tools/fuzz.sh $(MINUTES)

mutants: ## plant small faults in the core, one by one, and see which no test notices; takes hours
	@tools/setup.sh mutants
	@tools/mutants.sh

lint: ## formatting, clippy, architecture, licences, documentation, the .wasm's imports and exports
	@tools/setup.sh lint
	@tools/lint.sh

compose-test: ## the shipped compose files on a real container engine
	@tools/setup.sh demo prometheus
	@tools/build.sh
	@tools/build-fake-wechat.sh
	@tools/compose-test.sh

release: ## dist/release/, all that a release publishes, built twice to see that it is the same (docs/release.md)
	@tools/setup.sh release
	@tools/release.sh

clean: ## remove what was built; what was downloaded (.tools/) stays
	@cargo clean --quiet
	@rm -rf dist
