# zonecast. Needs Go, git and make; `make test` installs what else the tests use.
#
#   make           the binary, bin/zonecast
#   make up        a whole zonecast on this machine, with the example zones and fleet
#   make test      everything that must hold before a change is taken (what .ci/run runs)
#   make check     formatting, vet, staticcheck, go.mod, generated code; no tests
#   make race      the tests alone, with the race detector
#   make interop   the tests against other DNS servers alone
#   make acceptance   the runs on the whole data set, with their figures (docs/benchmarks.md)
#   make fuzz      every fuzz target in turn, FUZZTIME each
#   make bench     every benchmark
#   make deb       a Debian package of the binary, in dist/
#   make clean     removes bin/ and what `make up` made

SHELL    = /bin/sh
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 60s
# The longest begin first, or the others would wait for them at the end.
PACKAGES ?= ./internal/e2e ./cmd/zonecast ./store/... ./...
# What acceptance runs: packages, and tests in them by regular expression.
ACCEPTANCE ?= ./internal/e2e ./internal/viptest ./internal/hosttest ./internal/difftest ./authority ./guard ./configurator ./configurator/compile ./configurator/fromzone ./internal/fleettest ./store/zookeeper ./mapper/plan ./geo/formats ./rules/script
RUN        ?= .
# Two packages at a time: several of them start daemons, or measure. scripts/check.sh has vetted them.
# Nobody debugs these binaries: without DWARF they are linked in half the time.
TESTFLAGS ?= -p 2 -timeout 15m -vet=off -ldflags=-w

.DEFAULT_GOAL = build
.PHONY: build up test check race interop acceptance fuzz bench deb clean deps

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/zonecast ./cmd/zonecast

# The example is copied, so that it can be edited while it runs.
up: build
	@mkdir -p .zonecast
	@test -e .zonecast/zones || cp -R examples/wikimedia-cut/zones .zonecast/zones
	@test -e .zonecast/fleet.jsonl || cp examples/wikimedia-cut/fleet.jsonl .zonecast/fleet.jsonl
	./bin/zonecast up --dir .zonecast --zones .zonecast/zones --fleet .zonecast/fleet.jsonl

deps:
	scripts/install-test-deps.sh

# The tests run once, with the race detector and those of the tag interop among
# them: unit, contract, scenario and differential tests are one pass.
test: deps check
	CGO_ENABLED=1 go test -race -tags interop $(TESTFLAGS) $(PACKAGES)

check:
	scripts/check.sh

race:
	CGO_ENABLED=1 go test -race $(TESTFLAGS) $(PACKAGES)

interop: deps
	go test -tags interop -run 'Interop' $(TESTFLAGS) $(PACKAGES)

# One after another: they measure. They skip what needs a data set that is not there
# (ZONECAST_DATA says where it is).
acceptance: deps
	go test -tags acceptance,interop -run '$(RUN)' -v -count=1 -p 1 -timeout 150m $(ACCEPTANCE)

fuzz:
	scripts/fuzz.sh $(FUZZTIME) $(PACKAGES)

bench:
	go test -run '^$$' -bench . -benchmem -p 1 $(PACKAGES)

deb: build
	scripts/make-deb.sh bin/zonecast dist $(VERSION)

clean:
	rm -rf bin dist .zonecast
