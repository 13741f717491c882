#!/bin/sh
# Runs every fuzz target of the given packages, one after the other.
#
#   scripts/fuzz.sh 60s ./...
set -eu
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME PACKAGE...}
shift
go list "$@" | while read -r package; do
	targets=$(go test -list '^Fuzz' "$package" </dev/null | grep '^Fuzz' || true)
	for target in $targets; do
		echo "== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
	done
done
