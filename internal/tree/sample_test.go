package tree_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

func TestSampleQuestion(t *testing.T) {
	for text, want := range map[string]tree.SampleQuestion{
		`12 nxdomain A www.example.net.`:     {Times: 12, Was: "nxdomain", Type: record.TypeA, Name: "\x03www\x07example\x03net\x00"},
		`1 positive ANY .`:                   {Times: 1, Was: "positive", Type: record.TypeANY, Name: record.Root},
		`3 nodata TYPE65280 a\032b\.c\"\\d.`: {Times: 3, Was: "nodata", Type: 65280, Name: "\x08a b.c\"\\d\x00"},
	} {
		var q tree.SampleQuestion
		if err := q.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		back, err := q.MarshalText()
		if d := cmp.Diff(want, q); d != "" || err != nil || string(back) != text {
			t.Errorf("%s is written as %s, %v\n%s", text, back, err, d)
		}
	}
	for _, text := range []string{
		"", "1 positive A", "1 positive A a. b.", "0 positive A a.", "-1 positive A a.", "x positive A a.", "1  A a.", "1 Positive A a.",
		"99999999999 positive A a.", "1 positive B a.", "1 positive A a..", "1 " + strings.Repeat("a", 21) + " A a.",
	} {
		if err := new(tree.SampleQuestion).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzSample(f *testing.F) {
	f.Add([]byte(`{"from_ms":1,"to_ms":2,"queries":64,"drawn":1,"questions":["1 positive A www.example.net."]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again tree.Sample
		if json.Unmarshal(b, &s) != nil {
			return
		}
		if err := json.Unmarshal(tree.Encode(s), &again); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, again); d != "" {
			t.Errorf("read back: %s", d)
		}
	})
}
