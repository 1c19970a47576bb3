# Needs Go, git, make and bash; everything else comes through the Go module proxy.
SHELL := bash
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help

# Tools are the `tool` lines of test/tools/go.mod. `go tool` builds each of them once, into Go's build cache.
TOOL := go tool -modfile=$(CURDIR)/test/tools/go.mod
CONTROLLER_GEN := $(TOOL) controller-gen
GOLANGCI_LINT := $(TOOL) golangci-lint-kube-api-linter
GOTESTSUM := $(TOOL) gotestsum --format=pkgname --format-hide-empty-pkg
# Go caches passing tests; CI runs all of them, each time in another order.
TEST_FLAGS := -timeout=20m $(if $(CI),-count=1 -shuffle=on)

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1:/p' $(firstword $(MAKEFILE_LIST)) | while IFS=: read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: ## show the whole thing on this machine; KEEP=1 leaves it running, NODES=8 for eight nodes
	@go build -o bin/ ./test/demo && exec bin/demo

.PHONY: control-plane
control-plane: ## start a Kubernetes API server on this machine, until Ctrl-C
	@go build -o bin/control-plane ./test/controlplane/cmd && exec bin/control-plane up

.PHONY: build
build: ## compile manager and node-agent into bin/
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: ## run unit and integration tests with the race detector
	@go run ./test/controlplane/cmd build >/dev/null && \
	if [ "$$(go env CGO_ENABLED)" = 1 ]; then race=-race; else race=; echo "No C compiler here, so these tests run without the race detector." >&2; fi && \
	exec $(GOTESTSUM) --raw-command -- test/tools/test-modules $$race $(TEST_FLAGS)

.PHONY: e2e
e2e: ## install the chart on three real nodes made here, disturb and remove it, five minutes; needs root and Debian, or KUBECONFIG
	@go build -o bin/ ./test/e2e && exec bin/e2e

.PHONY: bench-pull
bench-pull: ## measure node-agent pull beside other tools, over an hour on an idle machine; SIZE=256MiB ROUNDS=2 SCENARIOS=S1,S3 or QUICK=1 for less, BEFORE=FILE beside another build
	@go -C test/bench/pull build -o $(CURDIR)/bin/bench-pull . && exec bin/bench-pull $(if $(QUICK),-quick) \
		$(if $(SIZE),-size='$(SIZE)') $(if $(ROUNDS),-rounds='$(ROUNDS)') $(if $(SCENARIOS),-scenarios='$(SCENARIOS)') $(if $(TOOLS),-tools='$(TOOLS)') $(if $(BEFORE),-before='$(abspath $(BEFORE))') $(if $(OUT),-out='$(abspath $(OUT))')

.PHONY: bench-fleet
bench-fleet: ## measure the control plane with 1,000 hollow agents, an hour; NODES=5000 IMAGES=10 PULL=5s DURATION=1m for another size
	@go build -o bin/bench-fleet ./test/bench/fleet && go -C test/bench/fleet/plot build -o $(CURDIR)/bin/bench-fleet-plot . && exec bin/bench-fleet \
		$(if $(NODES),-nodes='$(NODES)') $(if $(IMAGES),-images='$(IMAGES)') $(if $(PULL),-pull='$(PULL)') $(if $(DURATION),-idle='$(DURATION)') $(if $(OUT),-out='$(abspath $(OUT))')

.PHONY: generate
generate: ## write deep copies, CRDs, RBAC and the tables of fields and metrics from the code, and what the chart takes from config/
	@$(CONTROLLER_GEN) object:headerFile=test/tools/boilerplate.go.txt paths=./api/...
	@$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	@$(CONTROLLER_GEN) rbac:roleName=cloudimage-manager,fileName=manager_role.yaml paths=./cmd/manager output:rbac:dir=config/rbac
	@$(CONTROLLER_GEN) rbac:roleName=cloudimage-agent,fileName=agent_role.yaml paths=./cmd/node-agent output:rbac:dir=config/rbac
	@go run ./test/metricstable docs/metrics.md
	@go run ./test/fieldstable docs/fields.md config/crd/bases/*.yaml
	@go -C test/tools/release run ./chartfiles $(CURDIR)

.PHONY: release
release: ## write every artefact of a release into dist/: make release VERSION=v0.1.0; SIGNING_KEY=FILE signs it
	@go -C test/tools/release run . -repository $(CURDIR) -out $(CURDIR)/dist -version $(or $(VERSION),$(error say which: make release VERSION=v0.1.0)) \
		$(if $(SIGNING_KEY),-signing-key '$(abspath $(SIGNING_KEY))')

.PHONY: fmt
fmt: ## format the code and sort its imports
	@$(GOLANGCI_LINT) fmt

.PHONY: lint
lint: ## run the linters of .golangci.yml; make lint PKG=./internal/pull/... for some of the code
	@$(GOLANGCI_LINT) run $(or $(PKG),./...)

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in what the programs call; VULNDB=file:///... for a copy of vuln.go.dev
	@go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 $(if $(VULNDB),-db='$(VULNDB)') ./...

.PHONY: verify
verify: ## check that generated files, go.mod files and formatting are up to date, and lint
	@test/tools/verify
