# Every target says what it does: `make help`.

PYTHON ?= python3
STAGE ?= prod
STACK ?= joinguard
# What a user sets reaches the shell in the environment and never in the text of a command, so no value can run
# one or fall apart, whatever is in it; taken as it stands, since make would run a $(shell ...) in it. ARGS alone
# are words for the shell.
$(foreach each,PYTHON STAGE STACK FAULTS,$(eval override $(each) := $$(value $(each))))
export PYTHON STAGE STACK FAULTS
override RUN := .venv/bin/python
override LOCAL := .venv/.made .venv-aws/.made
# What a user's shell tells Python is about other programs: it hides our packages, or makes an error of their warnings.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDEVMODE PYTHONINSPECT
# uv keeps its cache at home; where that cannot be written, here.
ifeq ($(UV_CACHE_DIR)$(XDG_CACHE_HOME)$(shell [ -n "$$HOME" ] && [ ! -w "$$HOME" ] || echo writable),)
export UV_CACHE_DIR := $(CURDIR)/build/uv-cache
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ First steps

.PHONY: demo
demo: $(LOCAL) ## See the main job work on this machine, without an AWS account (needs only Python and make)
	@$(RUN) -m infra.local.demo

.PHONY: test
test: setup ## Run every test; ARGS are pytest's own, as in make test ARGS="-k intake"
	@$(RUN) -m pytest -n 3 --dist loadfile $(ARGS)

.PHONY: local
local: $(LOCAL) ## Keep the whole pipeline up on loopback, print where everything is as JSON (FAULTS=faults=0.2,seed=7)
	@exec $(RUN) -m infra.local

##@ An installation (STAGE=prod or another file in infra/stages; ARGS are the command's own, --help among them)

.PHONY: build
build: setup ## Build the function's zip from the commit, the same bytes every time
	@$(RUN) -m infra.deploy build $(ARGS)

.PHONY: deploy forwarder delegation-policy status logs destroy
deploy: setup ## Check, show what would change, ask, deploy
forwarder: setup ## Forward join events to a stage in another Region or account
delegation-policy: setup ## Print the policy that lets a member account do the work
status: setup ## Say how the installation stands
logs: setup ## Print the worker's log
destroy: setup ## Take the installation down; dry unless ARGS='--confirm --reason "…"'
deploy forwarder delegation-policy status logs destroy:
	@$(RUN) -m infra.deploy $@ --stage "$$STAGE" $(ARGS)

##@ An operator at work (STACK=joinguard; runbook: handlers/operate/RUNBOOK.md)

.PHONY: dlq show redrive drop restore edit outcome outcomes enforce
dlq: .venv/.made ## Show what waits in the dead letters, and why
show: .venv/.made ## Show one letter whole (ARGS=ID)
redrive: .venv/.made ## Put dead letters back; this and the next are dry unless ARGS='… --confirm --reason "…"'
drop: .venv/.made ## Take letters away after a backup (ARGS="--id ID")
restore: .venv/.made ## Bring a backup back (ARGS=KEY)
edit: .venv/.made ## Mend a letter's body and send it (ARGS=ID)
enforce: .venv/.made ## Ask for an account that no event told us about (ARGS=ACCOUNT)
outcome: .venv/.made ## Show what is true now of one account (ARGS=ACCOUNT)
outcomes: .venv/.made ## Show all events that are not well
dlq show redrive drop restore edit outcome outcomes enforce:
	@$(RUN) -m handlers.operate --stack "$$STACK" $(@:dlq=list) $(ARGS)

##@ Working on it

.PHONY: setup
setup: $(LOCAL) .venv-lambda/.made ## Install what the project needs, from the lock (the others call it)

.PHONY: check
check: lint types test ## Everything that CI runs

.PHONY: lint
lint: setup .venv-scan/.made ## Check style, and the templates with cfn-lint and checkov
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@.venv/bin/cfn-lint infra/*.yaml
	@.venv-scan/bin/checkov --file infra/*.yaml --framework cloudformation --skip-download --compact --quiet

.PHONY: types
types: setup ## Check types (mypy, strict)
	@$(RUN) -m mypy

.PHONY: format
format: setup ## Format the code
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

.PHONY: schemas
schemas: setup ## Write schemas/json anew from the models
	@$(RUN) -m infra.deploy.write_schemas

.PHONY: bench
bench: setup ## Measure bursts, a rival, cold start, a warm record and memory; tables, JSON and a plot in build/bench
	@.venv/bin/uv sync --quiet --frozen --group bench >&2
	@$(RUN) -m tests.bench $(ARGS)

.PHONY: clean
clean: ## Remove everything that was made here, the environments too
	rm -rf .venv .venv-* build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

# Talk goes to stderr: stdout belongs to the targets.
.venv/.made: pyproject.toml uv.lock infra/uv.txt
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, and {sys.argv[1]} is {sys.version.split()[0]}; say make PYTHON=python3.x")' "$$PYTHON" >&2
	@echo "setting up .venv" >&2
	@"$$PYTHON" -m venv .venv >&2
	@# Wheels only: building one would run what no hash pins.
	@$(RUN) -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --no-deps -r infra/uv.txt >&2
	@.venv/bin/uv sync --quiet --frozen --python $(RUN) >&2
	@touch $@

.venv-aws/.made: override GROUP := emulator
.venv-lambda/.made: override GROUP := lambda
.venv-scan/.made: override GROUP := scan
.venv-aws/.made .venv-lambda/.made .venv-scan/.made: .venv/.made tests/e2e/rie.txt
	@echo "setting up $(@D) (its packages pin others than ours)" >&2
	@UV_PROJECT_ENVIRONMENT=$(@D) .venv/bin/uv sync --quiet --frozen --python $(RUN) --only-group $(GROUP) >&2
	@[ $(GROUP) != lambda ] || .venv/bin/uv pip install --quiet --no-deps --require-hashes --target $(@D)/rie -r tests/e2e/rie.txt >&2
	@touch $@
