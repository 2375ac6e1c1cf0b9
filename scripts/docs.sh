#!/usr/bin/env bash
# The documentation as a site, from a fresh clone: bash scripts/docs.sh; then open build/site/index.html
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

setup docs
if [ ! -x .venv/bin/sphinx-build ]; then
    echo "The site is built with Python 3.11 or newer; set PYTHON to one, and remove .venv" >&2
    exit 2
fi
.venv/bin/python docs/site/assemble.py build/site-pages
rm -rf build/site
.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet -c docs/site build/site-pages build/site
.venv/bin/python docs/site/check.py build/site
echo "The site is in build/site: open build/site/index.html" >&2
