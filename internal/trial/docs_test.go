package trial_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
)

// The examples in docs/format/trial.md are what the types say, field by field.
func TestDocumentedNodes(t *testing.T) {
	nodes := map[string]any{"Trial": &trial.Trial{}, "Judgement": &trial.Judgement{}, "Answered": &trial.Answered{}, "Word": &trial.Word{}, "Offer": &struct {
		Format int `json:"format"`
		trial.Offer
	}{}}
	page, err := os.ReadFile("../../docs/format/trial.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^```json ([A-Za-z]+)\n(.*)\n```$").FindAllSubmatch(page, -1) {
		v, ok := nodes[string(m[1])]
		if !ok {
			t.Errorf("%s is no node, or is there twice", m[1])
			continue
		}
		delete(nodes, string(m[1]))
		d := json.NewDecoder(bytes.NewReader(m[2]))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Errorf("%s: %v", m[1], err)
		} else if got := bytes.ReplaceAll(tree.Encode(v), []byte(`\u003e`), []byte(">")); !bytes.Equal(got, m[2]) {
			t.Errorf("%s is encoded as\n%s\nand documented as\n%s", m[1], got, m[2])
		}
	}
	for name := range nodes {
		t.Errorf("%s is not documented", name)
	}
}
