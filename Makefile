# The verbs of wsecho. CI calls the same ones.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X wsecho/internal/flags.buildVersion=$(VERSION) -X wsecho/internal/flags.buildCommit=$(COMMIT)

# How long each fuzz target runs with `make fuzz`.
FUZZTIME ?= 1m

# What `make chaos` rolls its dice from; 0: a new seed, which it prints.
SEED ?= 0

# Arguments for `make run`, such as ARGS='-listen :9000'.
ARGS ?=

.PHONY: help build run test race fuzz chaos bench-calls lint clean clients

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/wsecho, and bin/wsload that measures it
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/wsecho ./cmd/server
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/wsload ./loadtest

run: build ## build and serve on :8080 (ARGS='-listen :9000' for more)
	./bin/wsecho $(ARGS)

# In e2e go test has no arguments, so that it shows which tests were skipped, and why.
test: clients ## run all tests: the server's own, and real clients against the binary
	$(GO) test ./...
	cd e2e && $(GO) test

race: clients ## run all tests under the race detector
	$(GO) test -race ./...
	cd e2e && $(GO) test -race

# Optional clients that need fetching. Without npm, or a way to the registry, the tests
# that want them are skipped and say so.
clients:
	@if command -v npm >/dev/null; then cd e2e/node && { [ -d node_modules/ws ] || npm ci --no-audit --no-fund --silent || \
		echo "npm ci failed: tests with the npm client will be skipped"; }; fi

# The inputs that it finds interesting are in the go command's cache. Those of earlier runs are kept
# in testdata/fuzz, where each run begins with them, and go test tries them all.
fuzz: ## run each fuzz target for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

chaos: ## attack the server for some minutes, and write docs/chaos.md (SEED=1 to repeat a run)
	$(GO) test ./chaos -count 1 -timeout 20m -v -long -seed $(SEED) -report $(CURDIR)/docs/chaos.md

lint: ## gofmt, go vet and staticcheck, pinned in go.mod; shellcheck if it is there
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd e2e && $(GO) vet ./...
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run; fi

clean: ## remove what was built
	rm -rf bin e2e/node/node_modules
