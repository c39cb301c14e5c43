# The verbs of wsecho. CI calls the same ones.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X wsecho/internal/flags.buildVersion=$(VERSION) -X wsecho/internal/flags.buildCommit=$(COMMIT)

# More flags for the linker: '-s -w' leaves out the symbol table and DWARF.
STRIP ?=

# Where programs are built.
BIN ?= bin

# How long each fuzz target runs with `make fuzz`.
FUZZTIME ?= 1m

# What `make chaos` rolls its dice from; 0: a new seed, which it prints.
SEED ?= 0

# Which k6 script `make k6` runs, and after what time it is ended; 0: never.
SCRIPT ?= smoke
LIMIT  ?= 2m

# Connections and the machine's memory for `make million-vm`.
COUNT  ?= 1000000
MEMORY ?= 20GiB

# Arguments for `make bench`, such as BENCHFLAGS='-rounds 1 -duration 1s -scenarios small'.
BENCHFLAGS ?=

# Arguments for `make run`, such as ARGS='-listen :9000'.
ARGS ?=

.PHONY: help build run test race fuzz chaos k6 million million-vm bench pgo deb deb-test systemd-test lint clean clients

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/wsecho, and bin/wsload that measures it
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS) $(STRIP)' -o $(BIN)/wsecho ./cmd/server
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS) $(STRIP)' -o $(BIN)/wsload ./loadtest

run: build ## build and serve on :8080 (ARGS='-listen :9000' for more)
	./bin/wsecho $(ARGS)

# Without arguments, go test shows what a package prints: which tests were skipped, and why.
test: clients ## run all tests: the server's own, and real clients against the binary
	$(GO) test ./...
	@set -e; cd e2e; for dir in $$($(GO) list -f '{{.Dir}}' ./...); do echo "$$dir: $(GO) test"; ( cd $$dir && $(GO) test ); done
	cd benchmarks/bench && $(GO) test

# Without e2e's packages that test no Go program: the image, the rules and the k6 scripts.
race: clients ## run all tests under the race detector
	$(GO) test -race ./...
	cd e2e && $(GO) test -race
	cd benchmarks/bench && $(GO) test -race

# Optional clients and peers that need fetching. Without npm, or a way to the registry, the tests
# that want them are skipped and say so.
clients:
	@if command -v npm >/dev/null; then for dir in e2e/node benchmarks/peers/ws; do \
		( cd $$dir && { [ -d node_modules/ws ] || npm ci --no-audit --no-fund --silent; } ) || \
		echo "npm ci failed in $$dir: tests with npm's ws will be skipped"; done; fi

# The inputs that it finds interesting are in the go command's cache. Those of earlier runs are kept
# in testdata/fuzz, where each run begins with them, and go test tries them all.
fuzz: ## run each fuzz target for FUZZTIME
	@set -e; for module in . benchmarks; do cd $(CURDIR)/$$module; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done; done

chaos: ## attack the server for some minutes, and write docs/chaos.md (SEED=1 to repeat a run)
	$(GO) test ./chaos -count 1 -timeout 20m -v -long -seed $(SEED) -report $(CURDIR)/docs/chaos.md

k6: build bin/k6 ## run a k6 script against a server of its own (SCRIPT=steady DURATION=10s LIMIT=0; see docs/k6.md)
	LIMIT=$(LIMIT) loadtest/k6/run $(SCRIPT)

# Both are pinned in the module tools, whose dependencies stay out of ours, and take some three minutes of CPU each, once.
bin/k6: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(CURDIR)/$@ go.k6.io/k6/v2

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

million: build ## open as many connections as this machine allows, up to a million, and say what they cost
	$(GO) run ./million

# All that the machine has in it is linked statically. MILLION_ACCELERATOR=tcg if KVM is there and better not tried.
million-vm: bin/vm/vmlinuz ## the same in a QEMU machine, in the background (COUNT=100000 MEMORY=6GiB), and write docs/million.md
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/vm/million ./million
	$(MAKE) --no-print-directory build BIN=bin/vm
	@command -v qemu-system-x86_64 >/dev/null || { echo "there is no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 1; }
	@setsid nohup bin/vm/million -vm -connections $(COUNT) -memory $(MEMORY) -kernel bin/vm/vmlinuz -server bin/vm/wsecho -load bin/vm/wsload \
		-log bin/vm/million.log -page docs/million.md </dev/null >bin/vm/million.out 2>&1 & \
	echo "process $$! runs it: see bin/vm/million.out"

# Debian's kernel for virtual machines, not installed. The package linux-image-cloud-amd64 only names the one that has it.
bin/vm/vmlinuz:
	@command -v apt-get >/dev/null || { echo "there is no apt-get to download a kernel with: put one at $@"; exit 1; }
	mkdir -p $(@D)/kernel
	cd $(@D)/kernel && apt-get download "$$(apt-cache depends linux-image-cloud-amd64 | awk '$$1 == "Depends:" { print $$2; exit }')" \
		&& dpkg -x linux-image-*.deb . && cp boot/vmlinuz-* ../vmlinuz
	rm -r $(@D)/kernel

bench: ## measure wsecho beside its peers for half an hour, and write docs/benchmarks (BENCHFLAGS=-h for less)
	cd benchmarks && $(GO) build -o ../bin/bench/bench ./bench && ../bin/bench/bench $(BENCHFLAGS)

pgo: build ## profile bin/wsecho under load for half a minute, for the compiler (cmd/server/default.pgo)
	cmd/server/profile.sh

deb: ## make a Debian package in bin/: programs, units, man pages
	deploy/deb/build.sh

deb-test: deb ## install, run, remove and purge it, in a throwaway layer over this machine's files (root)
	deploy/deb/test.sh bin/wsecho_*.deb

systemd-test: deb ## boot Debian in QEMU, and run the package under a real systemd (root, some minutes)
	deploy/systemd/test/run.sh bin/wsecho_*.deb

lint: bin/golangci-lint ## the linters of .golangci.yml, gofmt and go vet among them, in every module; actionlint; shellcheck if it is installed
	@[ $$(sed -n 's/^go //p' go.mod */go.mod | sort -u | wc -l) = 1 ] || { echo "the modules differ in their go line:"; grep '^go ' go.mod */go.mod; exit 1; }
	bin/golangci-lint run
	cd e2e && ../bin/golangci-lint run
	cd benchmarks && ../bin/golangci-lint run
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 .github/workflows/*.yml
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run loadtest/k6/run cmd/server/profile.sh deploy/deb/*.sh deploy/deb/post* deploy/deb/prerm deploy/systemd/test/*.sh; fi

clean: ## remove what was built
	rm -rf bin loadtest/k6/out e2e/node/node_modules benchmarks/peers/ws/node_modules
