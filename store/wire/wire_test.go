package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

func nodes(t *rapid.T, what string) (all []store.Node) {
	for i := range rapid.IntRange(0, 6).Draw(t, what) {
		n := store.Node{
			Path: fmt.Sprintf("/%s/%d", what, i), Value: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value"), Ephemeral: rapid.Bool().Draw(t, "ephemeral"),
			Created: store.Revision(rapid.Int64Range(0, 1<<60).Draw(t, "created")), Modified: store.Revision(rapid.Int64Range(0, 1<<60).Draw(t, "modified")),
		}
		all = append(all, n)
	}
	return all
}

// What is encoded and decoded again is the same, whole and frame by frame.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := store.Batch{Revision: store.Revision(rapid.Int64Range(0, 1<<60).Draw(t, "revision")), Reset: rapid.Bool().Draw(t, "reset"), Puts: nodes(t, "puts")}
		for _, n := range nodes(t, "deletes") {
			b.Deletes = append(b.Deletes, n.Path)
		}
		got, err := wire.ParseBatch(wire.AppendBatch(nil, b))
		if diff := cmp.Diff(b, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("batch: %v (-want +got):\n%s", err, diff)
		}
		txn := store.Txn{If: []store.Cond{{Path: "/a", Modified: b.Revision}}, Do: []store.Op{{Path: "/b", Value: []byte("v")}, {Path: "/c", Delete: true}}}
		token := wire.Token{1, 15: 2}
		session, again, err := wire.ParseTxn(wire.AppendTxn(nil, token, txn))
		if diff := cmp.Diff(txn, again, cmpopts.EquateEmpty()); diff != "" || err != nil || session != token {
			t.Fatalf("transaction: %v (-want +got):\n%s", err, diff)
		}
	})
}

// A long batch goes in parts, and comes back whole.
func TestParts(t *testing.T) {
	b := store.Batch{Revision: 7, Reset: true, Deletes: []string{"/gone"}}
	for i := range 300 {
		b.Puts = append(b.Puts, store.Node{Path: fmt.Sprintf("/n/%d", i), Value: bytes.Repeat([]byte{'v'}, 3000), Created: 1, Modified: 2})
	}
	m := wire.BatchMessage(b)
	if m.Frames() < 3 {
		t.Fatalf("%d frames for %d octets, expected parts of %d", m.Frames(), m.Size(), wire.PartSize)
	}
	var got store.Batch
	for i := range m.Frames() {
		var buf bytes.Buffer
		if err := m.WriteFrame(&buf, i, 42); err != nil {
			t.Fatal(err)
		}
		f, err := wire.Read(&buf)
		if err != nil || f.ID != 42 || buf.Len() > 0 {
			t.Fatalf("frame %d: %v, id %d", i, err, f.ID)
		}
		if f.Kind == wire.Part {
			some, err := wire.ParseNodes(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			got.Puts = append(got.Puts, some...)
			continue
		}
		last, err := wire.ParseBatch(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		last.Puts = append(got.Puts, last.Puts...)
		got = last
	}
	if !reflect.DeepEqual(b, got) { // a diff of so much takes a minute
		t.Errorf("batch of %d nodes comes back as one of %d, or another", len(b.Puts), len(got.Puts))
	}
}

// Errors that callers branch on go over the wire with their text.
func TestErrors(t *testing.T) {
	for _, is := range []error{store.ErrNotFound, store.ErrConflict, store.ErrUnavailable, store.ErrClosed, store.ErrSessionLost} {
		err := wire.ParseError(wire.AppendError(nil, fmt.Errorf("get /a: %w", is)))
		if !errors.Is(err, is) || err.Error() != "get /a: "+is.Error() {
			t.Errorf("%v arrives as %v", is, err)
		}
	}
	if err := wire.ParseError(wire.AppendError(nil, errors.New(strings.Repeat("x", 9000)))); err == nil || len(err.Error()) > 4096 {
		t.Errorf("a long text arrives with %d octets", len(err.Error()))
	}
}

// Frames beyond the bounds are refused before anything is allocated for them.
func TestBadFrames(t *testing.T) {
	for name, b := range map[string]string{
		"too long": "\xff\xff\xff\xff\x01", "too short": "\x00\x00\x00\x08\x01\x00\x00\x00\x00\x00\x00\x00\x00", "cut": "\x00\x00\x00\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00abc",
	} {
		if f, err := wire.Read(strings.NewReader(b + strings.Repeat("\x00", 8)[:0])); err == nil {
			t.Errorf("%s: %+v, expected an error", name, f)
		}
	}
	if _, err := wire.Read(strings.NewReader("")); err != io.EOF {
		t.Errorf("nothing: error is %v, expected EOF", err)
	}
	if _, err := wire.ParseTTL(wire.AppendTTL(nil, 0)); err == nil {
		t.Error("a ttl of nothing: no error")
	}
	if got, err := wire.ParseTTL(wire.AppendTTL(nil, 1500*time.Microsecond)); err != nil || got != 2*time.Millisecond {
		t.Errorf("a ttl of 1.5 ms is %v, %v, expected it rounded up", got, err)
	}
}

// FuzzPayloads: nothing that comes makes a parser panic or keep a bound not, and what is taken
// is encoded as it came.
func FuzzPayloads(f *testing.F) {
	f.Add(wire.AppendBatch(nil, store.Batch{Revision: 3, Reset: true, Puts: []store.Node{{Path: "/a", Value: []byte("v"), Created: 1, Modified: 2, Ephemeral: true}}, Deletes: []string{"/b"}}))
	f.Add(wire.AppendTxn(nil, wire.Token{1}, store.Txn{If: []store.Cond{{Path: "/a", Modified: 1}}, Do: []store.Op{{Path: "/b", Value: []byte("v")}, {Path: "/c", Delete: true}}}))
	f.Add(wire.AppendWatch(nil, "/a/", 7))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		if batch, err := wire.ParseBatch(b); err == nil {
			again, err := wire.ParseBatch(wire.AppendBatch(nil, batch))
			if diff := cmp.Diff(batch, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("batch: %v\n%s", err, diff)
			}
			for _, n := range batch.Puts {
				if err := store.CheckPath(n.Path); err != nil || len(n.Value) > store.MaxValue {
					t.Errorf("a node with the path %q and %d octets was taken: %v", n.Path, len(n.Value), err)
				}
			}
		}
		if _, txn, err := wire.ParseTxn(b); err == nil && txn.Check() != nil {
			t.Errorf("a transaction was taken that is none: %v", txn.Check())
		}
		_, _ = wire.ParseNode(b)
		_, _ = wire.ParseNodes(b)
		_, _, _ = wire.ParseList(b)
		_, _, _ = wire.ParseWatch(b)
		_, _ = wire.ParsePath(b)
		_, _ = wire.ParseStatus(b)
		_, _ = wire.Read(bytes.NewReader(b))
		if wire.ParseError(b) == nil {
			t.Error("a refusal is no error")
		}
	})
}
