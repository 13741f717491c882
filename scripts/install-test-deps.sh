#!/bin/sh
# Installs the Debian packages that the tests use and that are missing. Does nothing
# and needs nothing when all are there. Run it as root or as somebody who may sudo.
set -eu

# gcc, libc6-dev: the race detector is linked by cgo
# bind9, bind9-dnsutils, bind9-utils: named, dig, named-checkzone: the other opinion
# nsd, knot, tinydns: more of them
# gdnsd, knot-module-geoip: whose maps are read
# unbound: the resolver of a host, and its trust anchor
# git: keeps the sources of the configuration
# etcd-server: a store of three members, as users run it
# zookeeper, default-jre-headless: the same of the other engine
# aria2: fetches a published snapshot as any BitTorrent client does
# iproute2: hosts in network namespaces, with lines of a known rate
# bird2, frr: the routers that a VIP is announced to; exabgp: another speaker
# chromium: a browser that measures PoPs as users' do
# runit: services that somebody else than run host has; ruby: the syntax of the cookbook
# mmdebstrap: a fresh Debian to install the package in
# thrift-compiler: compares api/*.thrift with the committed code
wanted="gcc libc6-dev git bind9 bind9-dnsutils bind9-utils nsd knot knot-module-geoip gdnsd tinydns unbound dns-root-data etcd-server zookeeper default-jre-headless aria2 iproute2 bird2 frr exabgp thrift-compiler chromium runit ruby mmdebstrap"

if ! command -v dpkg-query >/dev/null; then
	missing=""
	for c in gcc git named dig named-checkzone nsd knotd gdnsd tinydns unbound etcd java aria2c ip tc bird bgpd exabgp thrift chromium sv ruby; do
		PATH="$PATH:/usr/sbin:/sbin:/usr/lib/frr" command -v "$c" >/dev/null || missing="$missing $c"
	done
	[ -z "$missing" ] && exit 0
	echo "install-test-deps: not a Debian system, and these commands are missing:$missing" >&2
	exit 1
fi

missing=""
for p in $wanted; do
	case "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)" in
	installed) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -z "$missing" ] && exit 0

echo "install-test-deps: missing packages:$missing" >&2
as_root=""
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
		echo "install-test-deps: cannot install them: not root, and sudo wants a password or is not there" >&2
		echo "hint: run as root: apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
	as_root="sudo -n"
fi

# Debian starts a daemon when its package is installed, unless this file forbids it.
# The tests start their own; nobody asked for a name server on port 53.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$as_root rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi

install() {
	# shellcheck disable=SC2086 # a list of words
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing </dev/null
}
# The lists are fetched only if the packages cannot be had with those that are there.
install || {
	$as_root apt-get update -q </dev/null
	install
}
