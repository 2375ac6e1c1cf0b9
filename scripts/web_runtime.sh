#!/usr/bin/env bash
# Fetch onnxruntime-web from npm, in the version that pages use: bash scripts/web_runtime.sh [FOLDER]
# FOLDER (web_runtime if left out) is what `makemore page --runtime` takes. Needs npm; installs nothing.
set -euo pipefail
folder=$(realpath -m "${1:-web_runtime}")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^WEB_VERSION = "\(.*\)"/\1/p' makemore_pl/page/web_runtime.py)
if ! command -v npm >/dev/null; then
    echo "npm is needed, which comes with Node.js" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "onnxruntime-web@$version" >/dev/null
tar -xzf "$work/onnxruntime-web-$version.tgz" -C "$work" \
    package/dist/ort.wasm.bundle.min.mjs package/dist/ort-wasm-simd-threaded.wasm
mkdir -p "$folder"
mv "$work"/package/dist/* "$folder"
echo "$folder"
