#!/bin/sh
# Makes an LXC container that is a DNS host: make-host.sh NAME DEB KEY STORE ADDRESS
#
#   NAME     of the container, and of the host
#   DEB      the package that `make deb` built
#   KEY      publisher.key.pub
#   STORE    as --store takes it, reachable from the container
#   ADDRESS  address:port on which it answers; the container has it by your network
#
# Needs lxc (lxc-create, lxc-start, lxc-attach) and root.
set -eu
if [ $# != 5 ]; then
	echo "make-host: expected NAME DEB KEY STORE ADDRESS, found $# arguments" >&2
	exit 2
fi
name=$1 deb=$2 key=$3 store=$4 address=$5
for f in "$deb" "$key"; do
	[ -f "$f" ] || { echo "make-host: $f is not there" >&2; exit 2; }
done
if lxc-info -n "$name" >/dev/null 2>&1; then
	echo "make-host: there is a container $name" >&2
	echo "hint: lxc-stop -n $name; lxc-destroy -n $name" >&2
	exit 1
fi

lxc-create -n "$name" -t download -- --dist debian --release bookworm --arch "$(dpkg --print-architecture)"
rootfs=$(lxc-config lxc.lxcpath)/$name/rootfs
# What the units of the host need; everything else LXC drops as it does.
cat >>"$(lxc-config lxc.lxcpath)/$name/config" <<EOF
lxc.start.auto = 1
lxc.prlimit.nofile = 65536
EOF

install -D -m 644 "$deb" "$rootfs/root/zonecast.deb"
install -D -m 644 "$key" "$rootfs/etc/zonecast/publisher.key.pub"
cat >"$rootfs/etc/zonecast/zonecast.toml" <<EOF
store = "$store"

[host]
name = "$name"

[authority]
listen = ["$address"]
EOF

lxc-start -n "$name"
lxc-wait -n "$name" -s RUNNING -t 60
# The options are there already, and stay.
lxc-attach -n "$name" -- sh -ec '
	dpkg --force-confold -i /root/zonecast.deb
	rm /root/zonecast.deb
	systemctl enable --now zonecast-host
	zonecast host doctor --config /etc/zonecast/zonecast.toml || true
'
