# make            build the binary
# make image      the container image for every platform, in bin/image
# make demo       a three-node cluster in network namespaces, and what travels in it
# make deps       what the tests need of this machine
# make test       format, vet, lint, unit tests, scenarios, packets, fuzz smoke, race detector
# make lint       golangci-lint, pinned in tools/
# make fuzz       every fuzz target for FUZZTIME (30s) each
# make cluster-up a Kubernetes cluster of three nodes on this machine, with Fairlead
# make cluster-down
# make e2e        the same for tests: made, tested, and taken down
# make e2e-full   every test and suite on every kind of cluster, into e2e/RESULTS.md
# make bench      Fairlead beside bare forwarding and Flannel's arrangement, as ratios
# make bench-scale an agent with 1,000 to 100,000 pods in a real API server; rewrites e2e/SCALE.md
# make generate   deep copies, CRD manifests and docs/api.md of api/
# make update     format, generate, and rewrite what tests compare with
# make clean      remove what make made

GO       ?= go
FUZZTIME ?= 30s
BIN      := bin/fairlead
# What has Go files of this module or of small ones beside it, which keep their
# dependencies from users of Fairlead.
SOURCE   := api bench cmd e2e internal tools
MODULES  := tools/chart tools/crd tools/image tools/promtool

.PHONY: build image demo deps test lint fuzz cluster-up cluster-down e2e e2e-full bench bench-scale generate update clean
.DEFAULT_GOAL := build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(BIN) ./cmd/fairlead

image:
	$(GO) run -C tools/image .

demo: build
	@scripts/demo $(BIN)

deps:
	@scripts/deps

test: deps lint
	@MODULES="$(MODULES)" scripts/test

lint:
	@test -z "$$(gofmt -l $(SOURCE))" || { gofmt -l $(SOURCE); echo "make: run make update: these files are not formatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...
	for m in $(MODULES) e2e; do (cd $$m && $(GO) vet ./... && $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run --config=$(CURDIR)/.golangci.yml ./...) || exit 1; done

fuzz:
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

cluster-up:
	@scripts/e2e-deps
	@$(GO) run -C e2e ./cmd/cluster up --network fairlead
	@$(GO) run -C e2e ./cmd/cluster check

cluster-down:
	@$(GO) run -C e2e ./cmd/cluster down

e2e:
	@scripts/e2e

e2e-full:
	@scripts/e2e-full

bench: deps
	$(GO) run ./bench

bench-scale:
	$(GO) run -C e2e ./cmd/scale -results SCALE.md

generate:
	tool=$$(cd tools/crd && $(GO) tool -n controller-gen) && $$tool object crd paths=./api/... output:crd:dir=deploy/crds
	$(GO) test -C tools/crd -run '^TestPageIsUpToDate$$' . -update

update: generate
	gofmt -w $(SOURCE)
	$(GO) test ./internal/feature/pod ./internal/feature/overlay ./internal/feature/snat ./internal/feature/hostport ./internal/feature/nodeportlocal ./internal/feature/guard ./internal/feature/forward ./internal/feature/tcp -run '^Test$$' -update
	$(GO) test -C tools/chart . -update
	UPDATE_SCRIPTS=1 $(GO) test ./cmd/...

clean:
	rm -rf bin
	$(GO) clean -testcache
