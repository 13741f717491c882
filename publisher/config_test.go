package publisher

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.Dir, good.KeyFile, good.URLs = "d", "k", []string{"http://192.0.2.1:7380"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*Config){
		"dataset":        func(c *Config) { c.Dataset = "a/b" },
		"dir":            func(c *Config) { c.Dir = "" },
		"key":            func(c *Config) { c.KeyFile = "" },
		"url":            func(c *Config) { c.URLs = []string{"192.0.2.1:7380"} },
		"snapshot-bytes": func(c *Config) { c.SnapshotBytes = -1 },
		"session-ttl":    func(c *Config) { c.SessionTTL = 0 },
		"max-downloads":  func(c *Config) { c.MaxDownloads = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s spoilt: error is %v", key, err)
		}
	}
}
