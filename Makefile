# The targets of wsecho. CI runs the same ones.

GO      ?= go

# The commit is part of the version (internal/flags/version.go). Without git it is unknown.
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)$(if $(shell git status --porcelain 2>/dev/null),-dirty)
LDFLAGS := -X wsecho/internal/flags.buildCommit=$(COMMIT)

# Additional linker flags: '-s -w' omits the symbol table and DWARF.
STRIP ?=

# The directory for built programs.
BIN ?= bin

# Time for each fuzz target of `make fuzz`.
FUZZTIME ?= 1m

# Random seed of `make chaos`; 0: a new one, which it prints.
SEED ?= 0

# Script of `make k6`, and the time limit for its run; 0: none.
SCRIPT ?= smoke
LIMIT  ?= 2m

# Connection count and guest memory of `make million-vm`.
COUNT  ?= 1000000
MEMORY ?= 20GiB

# Arguments for `make bench`, such as BENCHFLAGS='-rounds 1 -duration 1s -scenarios small'.
BENCHFLAGS ?=

# Arguments for `make run`, such as ARGS='-listen :9000'.
ARGS ?=

# Tests that qemu-user cannot run, because:
# - TCP_INFO is truncated, so connections have sent 0 bytes
SKIP_ARM64 := PeerAndSent|Connz|EventsOfConnection|List|LogConnectionsLogsOpenAndClose
# - IP_BIND_ADDRESS_NO_PORT is not implemented
SKIP_ARM64 := $(SKIP_ARM64)|ConnectIPv6|ConnectFrom
# - /proc describes qemu-user itself: its memory, its CPU time and its signal handlers
SKIP_ARM64 := $(SKIP_ARM64)|NewReleasesEverythingOnError|UsageFromProc|SIGHUPIsIgnoredUnderNohup
# - mincore counts pages of the host, and so writes beyond a vector for larger pages
SKIP_ARM64 := $(SKIP_ARM64)|TrimReturnsIdlePages|UntouchedPagesUseNoMemory

.PHONY: help build run test test-arm64 race fuzz screenshots chaos k6 million million-vm bench pgo deb deb-test release release-test systemd-test lint clean clients

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/wsecho and the load generator bin/wsload
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS) $(STRIP)' -o $(BIN)/wsecho ./cmd/server
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS) $(STRIP)' -o $(BIN)/wsload ./loadtest

run: build ## build the server and run it on :8080 (ARGS='-listen :9000' sets flags)
	./bin/wsecho $(ARGS)

# Without arguments, go test shows the output of a package, including which tests were skipped and why.
test: clients ## run all tests, including real clients against the binary
	$(GO) test ./...
	@set -e; cd e2e; for dir in $$($(GO) list -f '{{.Dir}}' ./...); do echo "$$dir: $(GO) test"; ( cd $$dir && $(GO) test ); done
	cd benchmarks/bench && $(GO) test

# Omits the tests of loadtest and chaos, which build and start other programs. TestARM64 is a short run of both programs.
test-arm64: ## run the tests that depend on the architecture for arm64, under qemu-user
	@command -v qemu-aarch64-static >/dev/null || { echo "qemu-aarch64-static is not installed (Debian: qemu-user-static)"; exit 1; }
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) test -exec $(CURDIR)/.ci/qemu-arm64 -skip '^Test($(SKIP_ARM64))$$' \
		./cmd/server ./internal/... ./loadtest/generate ./loadtest/measure ./loadtest/report ./loadtest/stats ./loadtest/wire
	cd e2e && $(GO) test -count 1 -run '^TestARM64$$' .

# Omits the packages of e2e that test no Go program: the image, the alert rules and the k6 scripts.
race: clients ## run all tests under the race detector
	$(GO) test -race ./...
	cd e2e && $(GO) test -race
	cd benchmarks/bench && $(GO) test -race

# Fetches optional clients and peers. Without npm or access to its registry, the tests that need them
# are skipped, and say so.
clients:
	@if command -v npm >/dev/null; then for dir in e2e/node benchmarks/peers/ws; do \
		( cd $$dir && { npm ls >/dev/null 2>&1 || npm ci --no-audit --no-fund --silent; } ) || \
		echo "npm ci failed in $$dir: tests that need its packages will be skipped"; done; fi

# New interesting inputs are in the cache of the go command. testdata/fuzz has those of earlier runs:
# each run starts with them, and go test runs them all.
fuzz: ## run each fuzz target for FUZZTIME
	@set -e; for module in . benchmarks; do cd $(CURDIR)/$$module; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done; done

screenshots: clients ## write the pictures in docs/images, of the console and of wsload's page (chromium)
	cd e2e && $(GO) test -count 1 -run 'Looks' -screenshots $(CURDIR)/docs/images

chaos: ## attack the server for some minutes and write docs/chaos.md (SEED=1 repeats a run)
	$(GO) test ./chaos -count 1 -timeout 20m -v -long -seed $(SEED) -report $(CURDIR)/docs/chaos.md

k6: build bin/k6 ## start a server and run a k6 script against it (SCRIPT=steady DURATION=10s LIMIT=0; see docs/k6.md)
	LIMIT=$(LIMIT) loadtest/k6/run $(SCRIPT)

# The module tools pins both programs, which keeps their dependencies out of the main module. The first build of each
# takes about three minutes of CPU.
bin/k6: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(CURDIR)/$@ go.k6.io/k6/v2

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

million: build ## open as many connections as this machine allows, up to a million, and measure their cost
	$(GO) run ./million

# The guest contains only static programs. MILLION_ACCELERATOR=tcg avoids KVM where it exists but does not work.
million-vm: bin/vm/vmlinuz ## do the same in a QEMU guest, in the background (COUNT=100000 MEMORY=6GiB), and write docs/million.md
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/vm/million ./million
	$(MAKE) --no-print-directory build BIN=bin/vm
	@command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)"; exit 1; }
	@setsid nohup bin/vm/million -vm -connections $(COUNT) -memory $(MEMORY) -kernel bin/vm/vmlinuz -server bin/vm/wsecho -load bin/vm/wsload \
		-log bin/vm/million.log -page docs/million.md </dev/null >bin/vm/million.out 2>&1 & \
	echo "running as process $$!, output in bin/vm/million.out"

# Debian's kernel for virtual machines, downloaded but not installed. linux-image-cloud-amd64 depends on the package
# that contains it.
bin/vm/vmlinuz:
	@command -v apt-get >/dev/null || { echo "apt-get is not installed, so the kernel cannot be downloaded: copy one to $@"; exit 1; }
	mkdir -p $(@D)/kernel
	cd $(@D)/kernel && apt-get download "$$(apt-cache depends linux-image-cloud-amd64 | awk '$$1 == "Depends:" { print $$2; exit }')" \
		&& dpkg -x linux-image-*.deb . && cp boot/vmlinuz-* ../vmlinuz
	rm -r $(@D)/kernel

bench: ## compare wsecho with other servers for half an hour and write docs/benchmarks (BENCHFLAGS=-h for shorter runs)
	cd benchmarks && $(GO) build -o ../bin/bench/bench ./bench && ../bin/bench/bench $(BENCHFLAGS)

pgo: build ## renew the compiler's profile cmd/server/default.pgo: run bin/wsecho under load for half a minute
	cmd/server/profile.sh

deb: ## build a Debian package in bin/ with programs, units and man pages
	deploy/deb/build.sh

deb-test: deb ## install, run, remove and purge the package in a throwaway file system layer (root)
	deploy/deb/test.sh bin/wsecho_*.deb

release: ## build archives and Debian packages for amd64 and arm64, checksums and a bill of materials in bin/release
	deploy/release/build.sh

release-test: ## build the last commit twice in different directories, compare and check the files
	deploy/release/test.sh

systemd-test: deb ## boot Debian in QEMU and test the package under a real systemd (root, some minutes)
	deploy/systemd/test/run.sh bin/wsecho_*.deb

lint: bin/golangci-lint ## run the linters of .golangci.yml in every module, actionlint, and shellcheck if it is installed
	@[ $$(sed -n 's/^go //p' go.mod */go.mod | sort -u | wc -l) = 1 ] || { echo "the go lines of the modules differ:"; grep '^go ' go.mod */go.mod; exit 1; }
	bin/golangci-lint run
	cd e2e && ../bin/golangci-lint run
	cd benchmarks && ../bin/golangci-lint run
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 .github/workflows/*.yml
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run .ci/qemu-arm64 loadtest/k6/run cmd/server/profile.sh deploy/deb/*.sh deploy/deb/post* deploy/deb/prerm deploy/release/*.sh deploy/systemd/test/*.sh; fi

clean: ## remove everything that was built
	rm -rf bin loadtest/k6/out e2e/node/node_modules benchmarks/peers/ws/node_modules
