#!/bin/sh
# Makes the script for pages, beacon/script/beacon.min.js, of beacon.js beside it.
#
#   scripts/gen-beacon.sh           writes it
#   scripts/gen-beacon.sh --check   writes nothing; fails when the committed one is not
#                                   what beacon.js gives
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
go tool -modfile=tools/esbuild/go.mod esbuild --minify --target=es2020 --charset=utf8 <beacon/script/beacon.js >"$out"
if [ "${1-}" = --check ]; then
	cmp -s "$out" beacon/script/beacon.min.js || {
		echo "beacon/script/beacon.min.js is not what beacon.js gives; hint: run scripts/gen-beacon.sh" >&2
		exit 1
	}
else
	cp "$out" beacon/script/beacon.min.js
fi
