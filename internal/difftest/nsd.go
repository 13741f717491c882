package difftest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// nsdConf answers from zone files and does nothing else.
const nsdConf = `server:
	ip-address: 127.0.0.1@%[2]d
	server-count: 1
	username: ""
	zonesdir: ""
	database: ""
	pidfile: "%[1]s/nsd.pid"
	xfrdfile: "%[1]s/xfrd.state"
	xfrdir: "%[1]s"
	zonelistfile: "%[1]s/zone.list"
	hide-version: yes
	hide-identity: yes
	minimal-responses: yes
	refuse-any: no
	answer-cookie: no
	ipv4-edns-size: 1232
	tcp-count: 50
	rrl-ratelimit: 0
	rrl-whitelist-ratelimit: 0
	verbosity: 1
remote-control:
	control-enable: no
`

// NSD is NLnet Labs' nsd.
func NSD() Program {
	return Program{
		Name: "nsd", Package: "nsd",
		config: func(dir string, zones []Zone, port uint16, work string) string {
			var sb strings.Builder
			fmt.Fprintf(&sb, nsdConf, work, port)
			for _, z := range zones {
				fmt.Fprintf(&sb, "zone:\n\tname: %q\n\tzonefile: %q\n", z.Apex, filepath.Join(dir, z.File))
			}
			return sb.String()
		},
		args: func(conf string) []string { return []string{"-d", "-c", conf} },
	}
}
