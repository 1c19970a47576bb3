# Every target works on a fresh machine that has Go, git, make and bash; tools come through the Go module proxy.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help

# Tools are the `tool` lines of test/tools/go.mod; `go tool` builds each once and keeps it in Go's build cache.
TOOL := go tool -modfile=test/tools/go.mod
CONTROLLER_GEN := $(TOOL) controller-gen

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([^:]+):.*## (.*)/\1\t\2/' | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: generate
generate: ## write deep copies, CRDs and RBAC from the markers in the code
	@$(CONTROLLER_GEN) object:headerFile=test/tools/boilerplate.go.txt paths=./api/...
	@$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	@$(CONTROLLER_GEN) rbac:roleName=cloudimage-manager,fileName=manager_role.yaml paths=./cmd/manager output:rbac:dir=config/rbac
	@$(CONTROLLER_GEN) rbac:roleName=cloudimage-agent,fileName=agent_role.yaml paths=./cmd/node-agent output:rbac:dir=config/rbac
