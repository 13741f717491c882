package tree_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
)

// The examples in docs/format/ are what the types say, field by field.
func TestDocumentedNodes(t *testing.T) {
	nodes := map[string]any{
		"Lease": &tree.Lease{}, "Source": &tree.Source{}, "Failure": &tree.Failure{}, "Progress": &tree.Progress{}, "Gate": &tree.Gate{}, "Head": &tree.Head{},
		"Host": &tree.Host{}, "Group": &tree.Group{}, "PoP": &tree.PoP{}, "SwarmPeer": &tree.SwarmPeer{}, "Trust": &tree.Trust{}, "Service": &tree.Service{}, "HostDataset": &tree.HostDataset{},
		"Override": &tree.Override{}, "Pin": &tree.Pin{}, "History": &tree.History{}, "Hold": &tree.Hold{}, "Freeze": &tree.Freeze{}, "Admitting": &tree.Admitting{}, "Expect": &tree.Expect{}, "Left": &tree.Left{}, "AuditEntry": &tree.AuditEntry{}, "Statement": &tree.Statement{}, "Direct": &tree.Direct{}, "Sample": &tree.Sample{}, "Versions": &tree.Versions{},
		"VIPHost": &tree.VIPHost{}, "VIPFloor": &tree.VIPFloor{}, "VIPLease": &tree.VIPLease{}, "VIPOrder": &tree.VIPOrder{},
		"ConfigHead": &tree.ConfigHead{}, "ConfigEntry": &tree.ConfigEntry{}, "ConfigMark": &tree.ConfigMark{},
	}
	for _, file := range []string{"store.md", "serving.md"} {
		page, err := os.ReadFile("../../docs/format/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)^```json ([A-Za-z]+)\n(.*)\n```$").FindAllSubmatch(page, -1) {
			name := string(m[1])
			v, ok := nodes[name]
			if !ok {
				t.Errorf("%s: %s is no node, or is there twice", file, name)
				continue
			}
			delete(nodes, name)
			d := json.NewDecoder(bytes.NewReader(m[2]))
			d.DisallowUnknownFields()
			if err := d.Decode(v); err != nil {
				t.Errorf("%s: %s: %v", file, name, err)
			} else if got := tree.Encode(v); !bytes.Equal(got, m[2]) {
				t.Errorf("%s: %s is encoded as\n%s\nand documented as\n%s", file, name, got, m[2])
			}
		}
	}
	for name := range nodes {
		t.Errorf("%s is not documented", name)
	}
}
