package snapshot

import (
	"reflect"
	"testing"

	"github.com/zonecast/zonecast/record"
)

// someLedger has zones with and without locations.
func someLedger(t testing.TB) *Ledger {
	t.Helper()
	d := NewDataset("internal")
	for i, put := range [][]record.RRset{
		{rrset(t, "example.net", record.TypeSOA, soa(10)), rrset(t, "example.org", record.TypeSOA, soa(20))},
		{rrset(t, "sub.example.net", record.TypeSOA, soa(1))},
	} {
		put[0].Location = record.Location("lab"[:3*i])
		delta, err := d.Change(int64(i), put, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Apply(delta); err != nil {
			t.Fatal(err)
		}
	}
	return &d.Ledger
}

func TestLedgerEncoding(t *testing.T) {
	l := someLedger(t)
	b := l.Append(nil)
	got, err := DecodeLedger(b)
	if err != nil || !reflect.DeepEqual(l, got) {
		t.Fatalf("%+v, %v; want %+v", got, err, l)
	}
	for n := range b {
		if _, err := DecodeLedger(b[:n]); err == nil {
			t.Errorf("cut off at %d of %d octets, and no error", n, len(b))
		}
	}
	if _, err := DecodeLedger(append(b, 0)); err == nil {
		t.Error("an octet behind it, and no error")
	}
}

func FuzzDecodeLedger(f *testing.F) {
	f.Add(someLedger(f).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := DecodeLedger(b); err == nil {
			l.Append(nil)
		}
	})
}
