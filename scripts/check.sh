#!/bin/sh
# Everything about the code that holds without running it. All checks run, also
# after one that fails.
set -eu
cd "$(dirname "$0")/.."
bad=0
fail() {
	echo "check: $1" >&2
	echo "hint: $2" >&2
	bad=1
}

unformatted=$(go tool -modfile=tools/gofumpt/go.mod gofumpt -l .) || fail "gofumpt does not run" "see above"
[ -z "$unformatted" ] || fail "not formatted: $(echo "$unformatted" | tr '\n' ' ')" \
	"go tool -modfile=tools/gofumpt/go.mod gofumpt -w ."

go vet -tags interop,acceptance ./... || fail "go vet complains" "see above"

go tool -modfile=tools/staticcheck/go.mod staticcheck -tags interop,acceptance ./... ||
	fail "staticcheck complains" "see above; go tool -modfile=tools/staticcheck/go.mod staticcheck -explain CHECK"

go mod tidy -diff || fail "go.mod or go.sum is not tidy" "go mod tidy"

scripts/gen-thrift.sh --check || fail "the generated code is not what api/*.thrift gives" "scripts/gen-thrift.sh"
scripts/gen-beacon.sh --check || fail "the minified script is not what beacon/script/beacon.js gives" "scripts/gen-beacon.sh"
exit $bad
