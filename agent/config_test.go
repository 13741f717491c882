package agent

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.Host, good.Journal, good.StatusDir, good.Keys = "host0", "j", "s", []string{"k.pub"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*Config){
		"host":         func(c *Config) { c.Host = "a/b" },
		"dataset":      func(c *Config) { c.Dataset = "" },
		"journal":      func(c *Config) { c.Journal = "" },
		"status-dir":   func(c *Config) { c.StatusDir = "" },
		"key":          func(c *Config) { c.Keys = nil },
		"session-ttl":  func(c *Config) { c.SessionTTL = 0 },
		"report-every": func(c *Config) { c.ReportEvery = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s spoilt: error is %v", key, err)
		}
	}
}
