package route

import (
	"strings"
	"testing"
)

// TestText: what is read is written back, and what cannot be meant is refused with the reason.
func TestText(t *testing.T) {
	for _, text := range []string{"dns=192.0.2.53", "dns=2001:db8::53", "a-b_1.c=192.0.2.53/24", "x=2001:db8::53/48"} {
		var v VIP
		if err := v.UnmarshalText([]byte(text)); err != nil || v.String() != text {
			t.Errorf("%s is written %s, %v", text, v, err)
		}
	}
	for _, text := range []string{"192.0.2.1@65000", "192.0.2.1:1790@1", "2001:db8::1@4294967295", "[2001:db8::1]:1790@65000"} {
		var p Peer
		if err := p.UnmarshalText([]byte(text)); err != nil || p.String() != text {
			t.Errorf("%s is written %s, %v", text, p, err)
		}
	}
	for text, want := range map[string]Community{"65000:53": 65000<<16 | 53, "graceful-shutdown": GracefulShutdown, "no-export": NoExport, "no-advertise": NoAdvertise} {
		var c, again Community
		if err := c.UnmarshalText([]byte(text)); err != nil || c != want {
			t.Errorf("%s is %s, %v", text, c, err)
		}
		if err := again.UnmarshalText([]byte(c.String())); err != nil || again != c {
			t.Errorf("%s is written %s", text, c)
		}
	}
	var l LargeCommunity
	if err := l.UnmarshalText([]byte("65000:4294967295:0")); err != nil || l.String() != "65000:4294967295:0" {
		t.Errorf("%v, %v", l, err)
	}
	for text, says := range map[string]string{
		"192.0.2.53": "has no =", "=192.0.2.53": "1 to 63", "A=192.0.2.53": "lower case", ".a=192.0.2.1": "not as the first",
		"dns=x": "no address", "dns=192.0.2.53/33": "no address", "dns=0.0.0.0": "cannot be announced", "dns=127.0.0.1": "cannot be announced",
		"dns=ff02::1": "cannot be announced", "dns=fe80::1%eth0": "cannot be announced", "dns=::ffff:192.0.2.1": "IPv4 address in IPv6", "dns=192.0.2.1/0": "whole Internet",
	} {
		if err := new(VIP).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
	for text, says := range map[string]string{"192.0.2.1": "has no @", "router@65000": "no address", "192.0.2.1:0@65000": "no address", "192.0.2.1@0": "1 to 4294967295", "192.0.2.1@x": "1 to 4294967295"} {
		if err := new(Peer).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
	for text, says := range map[string]string{"65000": "expected 2", "65536:1": "0 to 65535", "a:b": "no number"} {
		if err := new(Community).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
	if err := new(LargeCommunity).UnmarshalText([]byte("1:2")); err == nil || !strings.Contains(err.Error(), "expected 3") {
		t.Errorf("large community of two: %v", err)
	}
}
