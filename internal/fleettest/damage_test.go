package fleettest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonecast/zonecast/agent"
)

// What a disk does to a journal while its agent runs is found when the log is folded,
// and mended from what the agent has in memory.
// Nothing is fetched.
func TestDamageWhileRunning(t *testing.T) {
	f := newFleet(t)
	p, _ := f.publisherAt("p")
	h := f.host("host0", func(c *agent.Config) { c.FoldSize = 4096 })
	f.some(5)
	h.reaches()
	eventually(t, "signed", func() bool { return p.Status().Signed == f.d.Version() })
	logs, err := filepath.Glob(filepath.Join(h.cfg.Journal, "log-*"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, error %v", logs, err)
	}
	file, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("damage"), info.Size()/2); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a journal that is mended", func() bool {
		f.some(5)
		eventually(t, "versions", func() bool { return h.a.Status().Version == f.d.Version() })
		damaged, _ := f.metric("host0", "zonecast_agent_mended_total")
		return damaged > 0
	})
	h.reaches() // reads it from disk
	f.some(3)
	h.reaches()
	h.restart()
	h.reaches()
	if s := h.a.Status(); s.Quarantined != "" {
		t.Errorf("moved aside to %s, expected nothing to be fetched anew", s.Quarantined)
	}
}
