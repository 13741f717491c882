package difftest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Named is BIND's named.
func Named() Program {
	return Program{
		Name: "named", Package: "bind9",
		config: func(dir string, zones []Zone, port uint16, work string) string {
			var sb strings.Builder
			fmt.Fprintf(&sb, namedConf, work, port)
			for _, z := range zones {
				fmt.Fprintf(&sb, "zone %q { type primary; file %q; };\n", z.Apex, filepath.Join(dir, z.File))
			}
			return sb.String()
		},
		args: func(conf string) []string { return []string{"-g", "-n", "1", "-c", conf} },
	}
}

// namedConf answers from zone files and does nothing else. minimal-responses
// no-auth and minimal-any are what zonecast does, too: no NS beside a positive
// answer, one RRset to ANY over UDP.
const namedConf = `options {
	directory "%[1]s"; pid-file "%[1]s/named.pid"; session-keyfile "%[1]s/session.key"; managed-keys-directory "%[1]s";
	listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; allow-transfer { none; }; empty-zones-enable no; version none; hostname none;
	minimal-responses no-auth; minimal-any yes; answer-cookie no; max-udp-size 1232; querylog no;
	max-records-per-type 0; max-types-per-name 0; zero-no-soa-ttl no;
	check-names primary ignore; check-integrity no; check-mx ignore; check-srv-cname ignore; check-mx-cname ignore; check-sibling no; check-wildcard no;
};
controls { };
`
