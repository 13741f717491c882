package protocol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// TestNSID holds RFC 5001: the identity comes when it is asked for and there is one,
// never otherwise, and never makes a response larger than its limit.
func TestNSID(t *testing.T) {
	query := func(size uint16, options string) []byte {
		b := []byte{0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3}
		b = append(b, "www\x07example\x03net\x00\x00\x01\x00\x01\x00\x00\x29"...)
		b = binary.BigEndian.AppendUint16(b, size)
		b = binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 0), uint16(len(options)))
		return append(b, options...)
	}
	view := hardZone(t).view(t)
	const nsid = "\x00\x03\x00\x00"
	for _, c := range []struct {
		name, identity, options string
		size                    uint16
		want                    string // the end of the response: RDLENGTH and options
	}{
		{"asked", "host0", nsid, 1232, "\x00\x09\x00\x03\x00\x05host0"},
		{"behind another option", "host0", "\xfd\xe9\x00\x01x" + nsid, 1232, "\x00\x09\x00\x03\x00\x05host0"},
		{"not asked", "host0", "", 1232, "\x00\x00\x00\x00\x00\x00"},
		{"another option", "host0", "\x00\x08\x00\x04\x00\x01\x00\x00", 1232, "\x00\x00\x00\x00\x00\x00"},
		{"no identity", "", nsid, 1232, "\x00\x00\x00\x00\x00\x00"},
		{"no room", strings.Repeat("x", 255), nsid, 512, "\x00\x00\x00\x00\x00\x00"},
		{"cut off", "host0", "\x00\x03\x00\x02x", 1232, ""}, // FORMERR, without OPT
	} {
		k := NewWorker(Config{Identity: c.identity})
		got := k.Respond(view, query(c.size, c.options), UDP, time.Unix(0, 0), nil)
		if c.name == "cut off" {
			if rcode := Rcode(got[3] & 15); rcode != FormErr {
				t.Errorf("%s: %s, want FORMERR", c.name, rcode)
			}
			continue
		}
		if !bytes.HasSuffix(got, []byte(c.want)) || len(got) > int(c.size) || k.queries[0].nsid != strings.Contains(c.want, "\x00\x03\x00\x05") {
			t.Errorf("%s: %x, want it to end in %x", c.name, got, c.want)
		}
	}
}
