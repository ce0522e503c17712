# Every target first makes or updates .venv/, so that .venv/bin/kip is the command.
.DEFAULT_GOAL := help
ENVIRONMENT := .venv/.complete
BIN := .venv/bin

# The stamp is older than what it depends on, or missing after an interrupted run: made again.
$(ENVIRONMENT): requirements.lock pyproject.toml tools/environment
	@tools/environment

.PHONY: help demo test check docs bench image catalogue clean

help: $(ENVIRONMENT) ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(ENVIRONMENT) ## Run a real pod on a real (local) cell; KEEP=1 leaves the world up
	@$(BIN)/kip local demo $(if $(KEEP),--keep)

test: $(ENVIRONMENT) ## Run every test; those that boot real cells need root. ARGS="-k name" for pytest
	@$(BIN)/python -m pytest $(ARGS)

check: $(ENVIRONMENT) ## Lint, format, types and the order of imports
	@$(BIN)/ruff check operator tests tools docs
	@$(BIN)/ruff format --check operator tests tools docs
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: $(ENVIRONMENT) ## Make the documentation site, build/docs/index.html; a warning is an error
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

bench: $(ENVIRONMENT) ## Measure and write docs/performance.md
	@$(BIN)/python -m tests.bench

image: $(ENVIRONMENT) ## Build Kip's image with docker or buildah; IMAGE= TAG= PLATFORM= PUSH=1 ARCHIVE= BASE=
	@$(BIN)/python tools/make_image.py --name="$(IMAGE)" --tag="$(TAG)" --platform="$(PLATFORM)" --base="$(BASE)" \
		--archive="$(ARCHIVE)" $(if $(PUSH),--push)

catalogue: $(ENVIRONMENT) ## Make the bundled instance types and prices anew; PRICES=a price list (.csv.gz)
	@$(BIN)/python tools/make_catalogue.py --prices "$(or $(PRICES),$(error PRICES is not set; see CONTRIBUTING.md))"

clean: $(ENVIRONMENT) ## End the local world and remove what tests and tools left; programs compiled once stay
	@$(BIN)/kip local down
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find operator tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
