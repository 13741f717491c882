#!/bin/sh
# Generates the Go code of api/*.thrift (Debian's thrift-compiler 0.17.0).
#
#   scripts/gen-thrift.sh           writes api/<namespace>/*.go
#   scripts/gen-thrift.sh --check   writes nothing; fails when the committed code
#                                   is not what the IDL gives
set -eu
cd "$(dirname "$0")/.."
command -v thrift >/dev/null || {
	echo "thrift: not found; hint: apt-get install thrift-compiler" >&2
	exit 1
}
case "$(thrift --version)" in
*" 0.17."*) ;;
*)
	echo "thrift: $(thrift --version), expected 0.17.x: other versions write other code" >&2
	exit 1
	;;
esac
packages="answer registryapi controlapi configapi"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for idl in answer registry control config; do
	thrift -strict -I api -out "$out" \
		--gen go:package_prefix=github.com/zonecast/zonecast/api/,skip_remote \
		"api/$idl.thrift"
done
# A client notes what came with its last answer, unguarded, which two calls at once would race
# for. Nobody here reads it (api.Client gives nothing): it is not noted.
sed -i '/^[[:space:]]*p\.meta = meta$/d' "$out"/*/*.go
# The compiler writes an unused import guard in each folder and code that gofmt
# would write otherwise.
gofmt -w "$out"
bad=0
for p in $packages; do
	for f in "$out/$p"/*.go; do
		to="api/$p/$(basename "$f")"
		if [ "${1-}" = --check ]; then
			cmp -s "$f" "$to" || {
				echo "$to is not what api/*.thrift gives; hint: run scripts/gen-thrift.sh" >&2
				bad=1
			}
		else
			mkdir -p "api/$p"
			cp "$f" "$to"
		fi
	done
	if [ "${1-}" = --check ]; then
		for f in "api/$p"/*.go; do
			case "$f" in */doc.go) continue ;; esac
			[ -e "$out/$p/$(basename "$f")" ] || {
				echo "$f is not made from api/*.thrift; hint: remove it" >&2
				bad=1
			}
		done
	fi
done
exit $bad
