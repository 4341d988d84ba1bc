# moss. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

# The one place that names the build tags.
TAGS := seccomp,containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_devicemapper
export GOFLAGS := $(strip $(filter-out -tags=%,$(GOFLAGS)) -tags=$(TAGS))

# These live for milliseconds, again and again: static and small, they start faster. moss does without cgo, which takes
# 0.7 ms to start.
BRIEF      := moss moss-runtime
BRIEF_TAGS := runc_nocriu,netgo,osusergo,urfave_cli_no_docs

MODULE  := github.com/moss-containers/moss
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
WRITTEN := $(shell TZ=UTC git show --no-patch --date=iso-strict-local --format=%cd 2>/dev/null)
LDFLAGS := -s -w -X $(MODULE)/pkg/version.Version=$(VERSION) -X $(MODULE)/pkg/version.Commit=$(COMMIT) -X $(MODULE)/pkg/version.BuildTime=$(WRITTEN)
PREFIX  ?= $(HOME)/.local
PKG     ?= ./...
CMDS    := moss mossd moss-runtime moss-rootless moss-gvisor
LINT    := 2.15.0
COMPOSE := 5.6.0

.PHONY: help deps build install uninstall demo dev test test-nosystemd validate-runtime check bench walk networks robust compose debian13 fuzz env clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PREFIX=$(PREFIX)  PKG=./pkg/logs/... RUN=TestName RIG=1 (make test, make bench)"

deps: ## install what the machine lacks, through apt with root or sudo
	@tests/dev/deps.sh

build: bin/.hello ## moss, mossd and their companions into bin/
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(filter-out $(BRIEF),$(CMDS)))
	CGO_ENABLED=0 go build -trimpath -tags=$(TAGS),$(BRIEF_TAGS) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/moss
	go build -trimpath -tags=$(TAGS),$(BRIEF_TAGS) -ldflags '$(LDFLAGS) -extldflags=-static' -o bin/ ./cmd/moss-runtime
	@# The linker writes through a mapping, which leaves the program in the page cache in pieces of 4 kB; a copy is there in
	@# larger ones, and starts faster.
	@for c in $(CMDS); do cp -p bin/$$c bin/.$$c && mv -f bin/.$$c bin/$$c; done

# The image moss/hello is built from our own web server and embedded.
bin/.hello: $(wildcard cmd/moss-hello/*.go pkg/image/hello/*.go go.mod)
	@mkdir -p bin
	go generate ./pkg/image/...
	@touch $@

install: build ## binaries into PREFIX/bin (default ~/.local/bin)
	install -d '$(PREFIX)/bin'
	install -m 0755 $(addprefix bin/,$(CMDS)) '$(PREFIX)/bin/'

uninstall: ## take them away again
	rm -f $(foreach c,$(CMDS),'$(PREFIX)/bin/$(c)')

demo: deps build ## run a container and look at it from all sides, then clean up
	@tests/dev/with-user-manager.sh demo tests/demo/demo.sh

dev: deps build ## an engine in throwaway directories; prints the DOCKER_HOST to export; ends with Ctrl-C
	@tests/dev/with-user-manager.sh dev tests/dev/engine.sh

test: deps build ## all tests; PKG=./pkg/logs/... RUN=TestName narrow it, RIG=1 forces the rig
	@PKG='$(PKG)' RUN='$(RUN)' tests/dev/test.sh

test-nosystemd: deps build ## the end-to-end scripts against moss system service; RUN='TestScripts/^run$$' narrows
	@MOSS_NOSYSTEMD=1 PKG=./tests/e2e RUN='$(or $(RUN),TestScripts)' tests/dev/test.sh

validate-runtime: deps build ## the OCI runtime-tools' validation of moss-runtime, in a rig (root); RUNTIME=/usr/bin/crun is another's
	@RUNTIME='$(RUNTIME)' TESTS='$(TESTS)' tests/validation/run.sh

bin/tools/golangci-lint-$(LINT):
	@mkdir -p $(@D)
	GOFLAGS= GOBIN='$(CURDIR)/$(@D)' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(LINT)
	@mv $(@D)/golangci-lint $@

check: bin/.hello bin/tools/golangci-lint-$(LINT) ## golangci-lint, vet, the import laws, the unit files
	go vet ./...
	bin/tools/golangci-lint-$(LINT) run ./...
	go test ./tests/arch
	@if [ -d systemd-units ]; then go test ./systemd-units; fi

bench: export BENCH := 1
bench: deps build ## the figures, against bare crun and podman; RUN=Where narrows, FIGURES=1 fails where one is missed
	@PKG=./tests/bench MOSS_FIGURES='$(FIGURES)' tests/dev/test.sh

walk: deps build ## random operations beside kills of the daemon, for TIME (default 5m); SEED=n repeats a walk; RUNTIME=crun
	@MOSS_LONG='$(or $(TIME),5m)' MOSS_SEED='$(SEED)' MOSS_RUNTIME='$(RUNTIME)' PKG=./tests/e2e RUN=TestWalk tests/dev/test.sh

networks: ## 2,500 networks of both families come and go, with an end point in each, and containers move between five under traffic; minutes
	@MOSS_LONG=1 PKG=./tests/e2e RUN='TestManyNetworks|TestTopology' tests/dev/test.sh

robust: ## the daemon without a bus, on disks that cannot be written to, killed at its start, beside a second one; a minute
	@MOSS_LONG=1 PKG=./tests/e2e RUN='TestVanishedBus|TestReadOnlyDisk|TestFailedDisk|TestKilledAtStart|TestTwoDaemons' tests/dev/test.sh

# Its go.mod replaces and excludes, so it is built as the main module.
bin/tools/compose-$(COMPOSE)/docker-compose:
	@mkdir -p $(@D)
	@dir=$$(mktemp -d) && trap 'rm -rf '$$dir EXIT && module=github.com/docker/compose/v5 && \
	  cp -r --no-preserve=mode "$$(cd $$dir && GOFLAGS=-mod=mod go mod download -json $$module@v$(COMPOSE) | jq -r .Dir)" $$dir/src && cd $$dir/src && \
	  GOFLAGS= CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $$module/internal.Version=v$(COMPOSE)" -o '$(CURDIR)/$@' ./cmd

compose: deps build bin/tools/compose-$(COMPOSE)/docker-compose ## docker's compose against the engine; builds it, two minutes the first time
	@MOSS_COMPOSE=tools/compose-$(COMPOSE) PKG=./tests/e2e RUN='$(or $(RUN),TestCompose)' tests/dev/test.sh

debian13: deps build ## secrets sealed by Debian 13's systemd, in a rig with its files (root); RUN=… is other end-to-end tests there
	@RUN='$(RUN)' tests/dev/debian13.sh

fuzz: ## every fuzz target for FUZZTIME (default 20s); to make each finding small byte by byte would take all of it
	@failed=; for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
	  for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/p' "$$f"); do \
	    echo "== $$(dirname "$$f") $$name"; \
	    go test "$$(dirname "$$f")" -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(or $(FUZZTIME),20s)' -fuzzminimizetime 10x </dev/null || failed="$$failed $$name"; \
	  done; done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

env: ## the go settings, for a shell: eval $(make env)
	@echo "export GOFLAGS='$(GOFLAGS)'"

clean: ## remove what the build made
	rm -rf bin
