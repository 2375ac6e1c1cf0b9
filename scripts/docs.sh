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
# "Try it" is what `makemore page` writes of the shipped list's model. Its runtime lies beside it: nothing in the
# site is loaded from elsewhere.
rm -rf build/try
if bash scripts/web_runtime.sh build/web_runtime >/dev/null; then
    .venv/bin/makemore fit --quiet --run try --overwrite true --trainer.default_root_dir build/runs
    .venv/bin/makemore page build/runs/try -o build/try --runtime build/web_runtime
else
    echo "The site has no page to try the model: onnxruntime-web could not be fetched from npm" >&2
fi
.venv/bin/python docs/site/assemble.py build/site-pages build/try
rm -rf build/site
.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet -c docs/site build/site-pages build/site
.venv/bin/python docs/site/check.py build/site
echo "The site is in build/site: python -m http.server -d build/site" >&2
