# make help lists the targets. Nothing here needs root, a running database or a fixed port.

GO      ?= go

# Real rows and nasty strings; the demo and the tests use them where they are there.
DATA    ?= ../shared/data
INPUT   ?= $(wildcard $(DATA)/debian-packages.tsv.gz)
TEXTS   ?= $(wildcard $(DATA)/naughty-strings.base64.txt)

# How long the open-ended targets run.
FUZZTIME  ?= 5m
FUZZSHORT ?= 5000x # of each target, as a part of test
BENCHTIME ?= 2s
SOAKTIME  ?= 30m
TIMEOUT   ?= 20m

# The race detector needs gcc. Without it the tests run without the detector and say so.
# Looked for when a recipe runs, since deps may have installed it.
RACE = $(if $(shell command -v gcc || true),-race)

.DEFAULT_GOAL := build
.PHONY: help build demo test lint fuzz bench-reactor bench-wire bench-sync soak clean deps test-deps go

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: go ## bin/syncgate and bin/syncgate-agent
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

demo: deps build ## the main job on real rows: up, down, compared; INPUT=FILE.tsv.gz, ARGS='--keep'
	@bin/syncgate demo $(if $(INPUT),--input $(INPUT)) $(if $(TEXTS),--texts $(TEXTS)) $(ARGS)

test: go test-deps ## every test, with the race detector
	$(GO) vet ./...
	$(if $(RACE),,@echo 'make: no gcc, so the race detector is OFF' >&2)
	$(GO) test $(RACE) -timeout $(TIMEOUT) ./...
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(FUZZSHORT)
	@if [ -f bench/go.mod ]; then cd bench && if $(GO) mod download 2>/dev/null; then $(GO) vet ./...; else echo 'make: the modules of bench can not be had, so it is not checked' >&2; fi; fi

lint: go ## gofmt, go vet, and golangci-lint where it is installed
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo 'golangci-lint is not installed; gofmt and vet are clean'; fi

fuzz: go ## every fuzz target for FUZZTIME (5m) each
	@for file in $$(grep -rl '^func Fuzz' --include='*_test.go' . | sort); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "== $$(dirname $$file) $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
		done; \
	done

bench-reactor: go ## the event loops beside gnet, netpoll and plain net, taking turns
	cd bench && $(GO) run ./reactor

bench-wire: go ## sealing, opening and coding of messages, both wires
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./crypto ./protocol ./internal/pyliteral

bench-sync: deps build ## the whole path beside the plain driver on the same durable MariaDB, taking turns
	cd bench && $(GO) run ./sync --server ../bin/syncgate

soak: test-deps build ## the reactor's tests at full size, then the demo and the fault tests again and again for SOAKTIME (30m)
	REACTOR_SOAK=1 $(GO) test -count=1 -timeout 60m ./reactor
	@end=$$(($$(date +%s) + $(shell echo $(SOAKTIME) | sed 's/h$$/*3600/; s/m$$/*60/; s/s$$//'))); round=0; \
	while [ $$(date +%s) -lt $$end ]; do \
		round=$$((round + 1)); echo "== round $$round"; \
		bin/syncgate demo --rows 50000 --crash || exit 1; \
		$(GO) test $(RACE) -count=1 -timeout $(TIMEOUT) ./store/... ./reactor ./agent ./test/... || exit 1; \
	done; echo "soak: $$round rounds, no failure"

clean: ## what build and demo made; the unpacked MariaDB in the user's cache stays
	rm -rf bin syncgate-data

deps: go ## a MariaDB to run, installed or unpacked when there is none
	@deploy/get-mariadb.sh

test-deps: go
	@deploy/get-mariadb.sh --tests

# A Go older than 1.21 can't fetch the toolchain that go.mod asks for.
go:
	@command -v $(GO) >/dev/null || { echo 'make: Go is not installed (or not in PATH). Get 1.26 or newer from https://go.dev/dl/ and put its bin folder into PATH.' >&2; exit 1; }
	@case $$($(GO) env GOVERSION) in go1.?|go1.?.*|go1.1?|go1.1?.*|go1.20|go1.20.*) \
		echo "make: $$($(GO) env GOVERSION) is too old. Get 1.26 or newer from https://go.dev/dl/." >&2; exit 1;; esac
