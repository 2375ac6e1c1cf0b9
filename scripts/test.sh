#!/usr/bin/env bash
# Lint, types and tests, from a fresh clone: bash scripts/test.sh [--all] [--newest] [arguments of pytest]
#   --all     also the tests marked slow, which start ranks or browsers, kill or trace processes, make fresh
#             environments or take long; and the site of the documentation
#   --newest  tests alone, in .venv-newest, with the newest versions that pyproject.toml allows
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

venv=.venv chosen=(-m "not slow") site= arguments=()
for argument in "$@"; do
    case $argument in
    --all) chosen=() site=yes ;;
    --newest) venv=.venv-newest ;;
    *) arguments+=("$argument") ;;
    esac
done

if [ $venv = .venv ]; then
    setup dev
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
else
    rm -f $venv/installed-dev # there may be newer versions than last time
    setup dev $venv --upgrade --upgrade-strategy eager
    $venv/bin/python -m pip freeze --exclude-editable
fi
# A file's tests stay together: they share what their fixtures make. One process: -n 0
$venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile \
    ${chosen[@]+"${chosen[@]}"} ${arguments[@]+"${arguments[@]}"}
if [ "$site" ] && [ $venv = .venv ]; then
    bash scripts/docs.sh
fi
