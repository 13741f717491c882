package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zonecast/zonecast/host"
)

// TestAnnouncerStays: an announcer whose end takes routes back is replaced by no reload; with
// graceful restart it is.
func TestAnnouncerStays(t *testing.T) {
	for restart, stays := range map[string]bool{"0s": true, "2m": false} {
		file := filepath.Join(t.TempDir(), "zonecast.toml")
		text := fmt.Sprintf("store = \"etcd://192.0.2.11:2379\"\n[host]\nrun = [\"agent\", \"authority\", \"announcer\"]\n[authority]\nlisten = [\"192.0.2.53:53\"]\n"+
			"[announcer]\nvips = [\"dns=192.0.2.53\"]\nbgp-as = 65101\nbgp-local = \"198.51.100.2\"\nbgp-peers = [\"198.51.100.1@65000\"]\nbgp-graceful-restart = %q\n", restart)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg := host.DefaultConfig()
		cfg.Name, cfg.Run = "dns1", []string{"agent", "authority", "announcer"}
		h := &hostParts{cfg: cfg, file: file}
		if err := h.plan(); err != nil {
			t.Fatal(err)
		}
		for _, p := range h.parts() {
			if (p.Stays != "") != (stays && p.Name == "announcer") {
				t.Errorf("with bgp-graceful-restart = %s %s stays: %q", restart, p.Name, p.Stays)
			}
		}
	}
}
