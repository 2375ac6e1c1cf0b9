#!/usr/bin/env bash
# From a fresh clone to names: makes .venv, trains on the shipped list, folds, verifies, exports, samples.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
setup train

.venv/bin/makemore fit --run quickstart --overwrite true "$@"
echo
echo "More names, without PyTorch: .venv/bin/makemore sample checkpoints/quickstart -n 20"
.venv/bin/makemore sample checkpoints/quickstart -n 20
