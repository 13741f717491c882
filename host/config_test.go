package host

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigSaysWhatIsWrong(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"dir is empty":                      func(c *Config) { c.Dir = "" },
		`run has "named"`:                   func(c *Config) { c.Run = []string{"agent", "named"} },
		"run has agent twice":               func(c *Config) { c.Run = []string{"agent", "agent"} },
		"run has authority and tinydns":     func(c *Config) { c.Run = []string{"tinydns", "authority"} },
		"run is empty":                      func(c *Config) { c.Run = nil },
		`manager is "openrc"`:               func(c *Config) { c.Manager = "openrc" },
		`services is "zonecast-agent"`:      func(c *Config) { c.Services = "zonecast-agent" },
		"http is 127.0.0.1:65535":           func(c *Config) { c.HTTP = netip.MustParseAddrPort("127.0.0.1:65535") },
		"check-every is 1ms":                func(c *Config) { c.CheckEvery = time.Millisecond },
		"check-fall is 0":                   func(c *Config) { c.CheckFall = 0 },
		"start-grace is -1s":                func(c *Config) { c.StartGrace = -time.Second },
		"replace-within is 0s, at least 1s": func(c *Config) { c.ReplaceWithin = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	c := DefaultConfig()
	if got, want := c.HTTPOf("recursor").String(), "127.0.0.1:7393"; got != want {
		t.Errorf("recursor's HTTP is %s, want %s", got, want)
	}
	for manager, want := range map[string]string{Runit: "/etc/service/zonecast-agent", Systemd: "zonecast-agent.service"} {
		c.Manager = manager
		if got := c.Service("agent"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c.Services = "dns-%s@1"
	if got, want := c.Service("agent"), "dns-agent@1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Any response is life; silence and refusal are none.
func TestProbe(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asked := make(chan int, 1)
	go func() {
		b := make([]byte, 512)
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		asked <- n
		b[2] |= 0x80 // QR
		b[3] = 5     // REFUSED
		// Before it one that is to another question.
		_, _ = c.WriteTo(append([]byte{^b[0]}, b[1:n]...), from)
		_, _ = c.WriteTo(b[:n], from)
	}()
	at := netip.MustParseAddrPort(c.LocalAddr().String())
	if err := Probe(t.Context(), at); err != nil {
		t.Error(err)
	}
	if n := <-asked; n != 17 {
		t.Errorf("question of %d octets, want 12 of header and 5", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Probe(ctx, at); err == nil {
		t.Error("a probe that was cancelled finds life")
	}
	c.Close()
	if err := Probe(t.Context(), at); err == nil {
		t.Error("a port that nobody has is found alive")
	}
}
