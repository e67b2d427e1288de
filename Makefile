# `make help` lists the targets. No target needs root, a running database or a fixed port.

GO      ?= go

# Real rows and awkward strings for the demo and the tests. Without them both make up their own.
DATA    ?= ../shared/data
INPUT   ?= $(wildcard $(DATA)/debian-packages.tsv.gz)
TEXTS   ?= $(wildcard $(DATA)/naughty-strings.base64.txt)

# How long the open-ended targets run.
FUZZTIME  ?= 5m
FUZZSHORT ?= 5000x # executions of each fuzz target in `make test`
BENCHTIME ?= 2s
SOAKTIME  ?= 30m
ATTACKTIME ?= 20s
TIME      ?= 10m
TIMEOUT   ?= 45m
AGENTMAX  ?= 9000000 # bytes of one agent

# The race detector needs gcc. Without gcc the tests run without the detector and report this.
# The value is computed when a recipe runs, because test-deps may install gcc first.
RACE = $(if $(shell command -v gcc || true),-race)

.DEFAULT_GOAL := build
.PHONY: help build agent-all demo test test-attacks test-changes test-links lint fuzz bench-reactor bench-wire bench-sync bench-live bench-original soak clean deps test-deps go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: go ## build bin/syncgate and bin/syncgate-agent
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

# Without inlining each agent is 8 % smaller. The agent waits for network and database, so nothing else is lost.
agent-all: go ## build bin/syncgate-agent-{amd64,arm64,armv7}, static, each below AGENTMAX bytes
	@mkdir -p bin
	@for arch in amd64 arm64 armv7; do \
		out=bin/syncgate-agent-$$arch; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$${arch%v7} GOARM=7 $(GO) build -trimpath -gcflags=all=-l -ldflags '-s -w' \
			-o $$out ./cmd/syncgate-agent || exit 1; \
		size=$$(wc -c <$$out); echo "$$out: $$size bytes"; \
		if [ $$size -ge $(AGENTMAX) ]; then echo "make: $$out has $(AGENTMAX) bytes or more" >&2; exit 1; fi; \
	done

demo: deps build ## sync real rows up and down, then compare both sides; INPUT=FILE.tsv.gz, ARGS='--keep'
	@bin/syncgate demo $(if $(INPUT),--input $(INPUT)) $(if $(TEXTS),--texts $(TEXTS)) $(ARGS)

test: go test-deps ## run every test with the race detector
	$(GO) vet ./...
	$(if $(RACE),,@echo 'make: gcc is missing; the race detector is OFF' >&2)
	$(GO) test $(RACE) -timeout $(TIMEOUT) ./...
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(FUZZSHORT)
	@cd bench && if $(GO) mod download 2>/dev/null; then $(GO) vet ./...; \
	else echo 'make: the modules of bench cannot be downloaded; bench is not checked' >&2; fi

test-attacks: go test-deps ## run each attack on a server for ATTACKTIME (20s), and hold the latencies to the tight bound
	SYNCGATE_TEST_ATTACK=$(ATTACKTIME) $(GO) test -count=1 -timeout 60m -v -run '^TestAttack' ./test

test-changes: go test-deps ## let applications write at a centre and three points for TIME (10m) while everything is killed
	SYNCGATE_CHANGES_TIME=$(TIME) $(GO) test $(RACE) -count=1 -timeout 0 -v -run TestChangesModel ./test

test-links: go test-deps ## let an agent work for TIME (10m) over a line of 8 kB/s that is cut every 30 s
	SYNCGATE_TEST_LINKS=$(TIME) $(GO) test -count=1 -timeout 0 -v -run "TestShortLivedLink|TestFarLink|TestRowOf50MB|TestBackAfter" ./test

lint: go ## run gofmt, go vet, and golangci-lint where it is installed
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
	else echo 'golangci-lint is not installed; gofmt and vet are clean'; fi

fuzz: go ## run every fuzz target for FUZZTIME (5m) each
	@for file in $$(grep -rl '^func Fuzz' --include='*_test.go' . | sort); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "== $$(dirname $$file) $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
		done; \
	done

bench-reactor: go ## compare the event loop with gnet, netpoll and plain net
	cd bench && $(GO) run ./reactor

bench-wire: go ## measure sealing, opening and coding of messages on both wires
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./crypto ./protocol ./internal/pyliteral

bench-sync: deps build ## compare the whole path with the plain driver on the same durable MariaDB
	cd bench && $(GO) run ./sync --server ../bin/syncgate

bench-live: deps build ## measure how soon other points have a row, and what many subscribed points cost
	cd bench && $(GO) run ./sync --server ../bin/syncgate --live

bench-original: deps build ## compare the v1 wire with a small model of the original server on the same durable MariaDB
	cd bench && $(GO) run ./sync --server ../bin/syncgate --original

soak: test-deps build ## run the reactor's tests at full size, then repeat demo and fault tests for SOAKTIME (30m)
	REACTOR_SOAK=1 $(GO) test -count=1 -timeout 60m ./reactor
	@end=$$(($$(date +%s) + $(shell echo $(SOAKTIME) | sed 's/h$$/*3600/; s/m$$/*60/; s/s$$//'))); round=0; \
	while [ $$(date +%s) -lt $$end ]; do \
		round=$$((round + 1)); echo "== round $$round"; \
		bin/syncgate demo --rows 50000 --crash || exit 1; \
		$(GO) test $(RACE) -count=1 -timeout $(TIMEOUT) ./store/... ./reactor ./agent ./test/... || exit 1; \
	done; echo "soak: $$round rounds, no failure"

clean: ## remove the output of build and demo; keep the unpacked MariaDB in the user's cache
	rm -rf bin syncgate-data

deps: go ## install or unpack MariaDB when there is none
	@deploy/get-mariadb.sh

test-deps: go
	@deploy/get-mariadb.sh --tests

# A Go older than 1.21 cannot fetch the toolchain that go.mod names.
go:
	@command -v $(GO) >/dev/null || { echo 'make: Go is not in PATH.' \
		'Get 1.26 or newer from https://go.dev/dl/ and put its bin folder into PATH.' >&2; exit 1; }
	@case $$($(GO) env GOVERSION) in go1.?|go1.?.*|go1.1?|go1.1?.*|go1.20|go1.20.*) \
		echo "make: $$($(GO) env GOVERSION) is too old. Get 1.26 or newer from https://go.dev/dl/." >&2; exit 1;; esac
