package difftest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// knotConf answers from zone files and does nothing else: semantic checks off, as
// others load these files; journal off, so that nothing is kept.
const knotConf = `server:
    listen: 127.0.0.1@%[2]d
    rundir: "%[1]s"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    udp-max-payload: 1232
    tcp-max-clients: 100
    answer-rotation: off
database:
    storage: "%[1]s"
log:
  - target: stderr
    any: warning
template:
  - id: default
    storage: "%[3]s"
    semantic-checks: off
    zonefile-sync: -1
    journal-content: none
zone:
`

// Knot is CZ.NIC's knotd.
func Knot() Program {
	return Program{
		Name: "knotd", Package: "knot",
		config: func(dir string, zones []Zone, port uint16, work string) string {
			var sb strings.Builder
			fmt.Fprintf(&sb, knotConf, work, port, dir)
			for _, z := range zones {
				fmt.Fprintf(&sb, "  - domain: %q\n    file: %q\n", z.Apex, filepath.Join(dir, z.File))
			}
			return sb.String()
		},
		args: func(conf string) []string { return []string{"-c", conf} },
	}
}
