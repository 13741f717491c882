package zookeeper

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/store"
)

var compareRecords = []cmp.Option{cmp.AllowUnexported(record{}, change{}), cmpopts.EquateEmpty()}

// What is encoded is decoded, whatever it is; cut, or longer, it is refused.
func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) change {
			c := change{path: "/" + rapid.StringMatching(`[!-.0-~]{3,20}`).Draw(t, "path"), delete: rapid.Bool().Draw(t, "delete")}
			if !c.delete {
				c.value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
				c.created = store.Revision(rapid.Int64Range(0, 1<<63-1).Draw(t, "created"))
				c.ephemeral = rapid.Bool().Draw(t, "ephemeral")
			}
			return c
		}), 0, 5).Draw(t, "changes")
		b := encodeChanges(changes)
		got, err := decodeEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(record{changes: changes}, got, compareRecords...); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		for _, bad := range [][]byte{b[:cut], append(bytes.Clone(b), 0)} {
			if _, err := decodeEntry(bad); !errors.Is(err, errEntry) {
				t.Fatalf("%x of %x: error is %v, expected that it is damaged", bad, b, err)
			}
		}
	})
}

func TestEntryKinds(t *testing.T) {
	id := "0123456789abcdef"
	long := strings.Repeat("p", 255)
	for text, want := range map[string]*record{
		string(encodeBulk(id)):                   {bulk: id},
		string(encodeNext(7)):                    {next: 7},
		string(encodeChanges(nil)):               {},
		"\x01\x00\x01\x01\x00\x02/a\x01v":        {changes: []change{{path: "/a", value: []byte("v")}}},
		"\x01\x00\x01\x02\x05\x02/a\x00":         {changes: []change{{path: "/a", created: 5, ephemeral: true}}},
		"\x01\x00\x01\x03\x00\x02/a\x00":         {changes: []change{{path: "/a", delete: true}}},
		"":                                       nil,
		"\x01":                                   nil,
		"\x02\x00\x00":                           nil, // another format
		"\x01\x03":                               nil, // another kind
		"\x01\x02\x00":                           nil, // generation 0 is never next
		string(encodeBulk("../../../secrets")):   nil,
		string(encodeBulk(strings.ToUpper(id))):  nil,
		"\x01\x00\x01\x04\x00\x02/a\x00":         nil, // another operation
		"\x01\x00\x01\x03\x00\x02/a\x01v":        nil, // a value of what was deleted
		"\x01\x00\x01\x03\x05\x02/a\x00":         nil,
		"\x01\x00\x01\x01\x00\x01a\x00":          nil, // no path
		"\x01\x00\x79\x01\x00\x02/a\x01v":        nil, // 121 operations
		"\x01\x00\x01\x01\x00\x81\x08/" + long:   nil, // a path of 1,025 octets
		"\x01\x00\x01\x01\x00\x02/a\x81\x80\x04": nil, // a value of 65,537 octets
		"\x01\x00\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02/a\x00": nil, // made at -1
	} {
		got, err := decodeEntry([]byte(text))
		if want == nil {
			if !errors.Is(err, errEntry) {
				t.Errorf("%q: %+v, %v, expected that it is damaged", text, got, err)
			}
		} else if diff := cmp.Diff(*want, got, compareRecords...); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
	// The vector of docs/format/zookeeper.md.
	vector := encodeChanges([]change{{path: "/a/b", value: []byte("hi")}, {path: "/a/c", value: []byte("x"), created: 300, ephemeral: true}, {path: "/d", delete: true}})
	if got, want := hex.EncodeToString(vector), "01000301"+"00"+"04"+"2f612f62"+"02"+"6869"+"02"+"ac02"+"04"+"2f612f63"+"01"+"78"+"03"+"00"+"02"+"2f64"+"00"; got != want {
		t.Errorf("vector is %s, expected %s", got, want)
	}
}

// The largest entry has room in a znode, and the largest inline one in a packet.
func TestEntrySizes(t *testing.T) {
	var changes []change
	room := store.MaxTxnBytes
	for i := range store.MaxTxnOps {
		p := fmt.Sprintf("/%0255d/%0255d/%0255d/%0250d", i, i, i, i)
		n := min(store.MaxValue, room-len(p)-(store.MaxTxnOps-i-1)*1020)
		changes = append(changes, change{path: p, value: make([]byte, max(n, 0)), created: 1<<63 - 1})
		room -= len(p) + max(n, 0)
	}
	b := encodeChanges(changes)
	if len(b) > maxEntry || len(b) > packetRoom-maxRoot-200 {
		t.Errorf("the largest entry has %d octets, expected at most %d and %d", len(b), maxEntry, packetRoom-maxRoot-200)
	}
	if _, err := decodeEntry(b); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeChanges(nil))
	f.Add(encodeChanges([]change{{path: "/a/b", value: []byte("hi")}, {path: "/a/c", created: 300, ephemeral: true}, {path: "/d", delete: true}}))
	f.Add(encodeBulk("0123456789abcdef"))
	f.Add(encodeNext(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeEntry(b)
		if err != nil {
			return
		}
		var again []byte
		switch {
		case r.bulk != "":
			again = encodeBulk(r.bulk)
		case r.next != 0:
			again = encodeNext(r.next)
		default:
			again = encodeChanges(r.changes)
		}
		got, err := decodeEntry(again)
		if diff := cmp.Diff(r, got, compareRecords...); err != nil || diff != "" {
			t.Fatalf("encoded again: %v (-first +second):\n%s", err, diff)
		}
	})
}
