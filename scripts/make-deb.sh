#!/bin/sh
# Builds a Debian package of the program that make has built: make-deb.sh BINARY OUTDIR
# [VERSION]. Needs dpkg-deb, gzip and what the machine has anyway. The same sources give
# the same octets: times are SOURCE_DATE_EPOCH, which is the last commit's if it is not set.
# DEB_COMPRESSION is xz unless it is set (dpkg-deb -Z).
set -eu
if [ $# -lt 2 ] || [ ! -x "$1" ]; then
	echo "make-deb: expected a program and a directory, found: $*" >&2
	echo "hint: make deb" >&2
	exit 2
fi
bin=$(realpath "$1") out=$(mkdir -p "$2" && realpath "$2")
cd "$(dirname "$0")/.."

described=${3:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
case "$described" in
v[0-9]*) version=$(echo "${described#v}" | tr - +) ;;
[0-9]*.*) version=$(echo "$described" | tr - +) ;;
*) version="0~git.$(echo "$described" | tr - +)" ;; # no tag yet: before every release
esac
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
arch=$(dpkg --print-architecture)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022
put() { # put MODE FILE TO
	install -D -m "$1" "$2" "$root$3"
}
put 755 "$bin" /usr/bin/zonecast
put 640 deploy/debian/zonecast.toml /etc/zonecast/zonecast.toml
put 644 deploy/systemd/zonecast-host.service /lib/systemd/system/zonecast-host.service
for part in agent authority recursor announcer tinydns proxy; do
	sed "s/PART/$part/g" deploy/systemd/zonecast-PART.service.in >"$root/unit"
	put 644 "$root/unit" "/lib/systemd/system/zonecast-$part.service"
done
put 644 deploy/systemd/tinydns.conf /usr/share/zonecast/systemd/tinydns.conf
put 644 deploy/systemd/tinydns.conf /lib/systemd/system/zonecast-tinydns.service.d/capabilities.conf
for part in host agent authority recursor announcer tinydns proxy; do
	caps=+net_bind_service,+net_admin,+sys_nice
	[ $part != tinydns ] || caps=$caps,+sys_chroot,+setgid
	sed "s/^caps=CAPS/caps=$caps/; s/host exec PART/$([ $part = host ] && echo run host || echo "host exec $part")/; s/PART/$part/g" deploy/runit/run.in >"$root/unit"
	put 755 "$root/unit" "/etc/sv/zonecast-$part/run"
	sed "s/PART/$part/g" deploy/runit/log-run.in >"$root/unit"
	put 755 "$root/unit" "/etc/sv/zonecast-$part/log/run"
done
rm "$root/unit"

man=$root/usr/share/man/man1
doc=$root/usr/share/doc/zonecast
mkdir -p "$man" "$doc" "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
"$bin" man "$man"
"$bin" completion bash >"$root/usr/share/bash-completion/completions/zonecast"
"$bin" completion zsh >"$root/usr/share/zsh/vendor-completions/_zonecast"
"$bin" completion fish >"$root/usr/share/fish/vendor_completions.d/zonecast.fish"
cp docs/*.md examples/zonecast.toml "$doc"
put 644 deploy/debian/copyright /usr/share/doc/zonecast/copyright
cat >"$doc/changelog.Debian" <<EOF
zonecast ($version) unstable; urgency=medium

  * Built from $described.

 -- the zonecast authors <zonecast@example.net>  $(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
EOF
gzip -9n "$man"/*.1 "$doc/changelog.Debian"

mkdir "$root/DEBIAN"
size=$(du -sk --apparent-size "$root" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" deploy/debian/control.in >"$root/DEBIAN/control"
cp deploy/debian/conffiles "$root/DEBIAN/"
for script in postinst prerm postrm; do
	install -m 755 "deploy/debian/$script" "$root/DEBIAN/$script"
done
find "$root" -print0 | xargs -0 touch --no-dereference --date "@$SOURCE_DATE_EPOCH"
deb=$out/zonecast_${version}_$arch.deb
dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" -b "$root" "$deb" >/dev/null
echo "$deb"
