#!/usr/bin/env bash
# Lint, types and tests, from a fresh clone. Arguments go to pytest: bash scripts/test.sh -k fold
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
setup dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest "$@"
