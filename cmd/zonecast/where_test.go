package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/store/etcd"
	"github.com/zonecast/zonecast/store/proxied"
	"github.com/zonecast/zonecast/store/zookeeper"
)

// What --store may say.
func TestStoreOptions(t *testing.T) {
	for _, c := range []struct {
		options storeOptions
		want    engine
	}{
		{storeOptions{Store: "embedded"}, engine{embedded: true}},
		{storeOptions{Store: "embedded", Prefix: "/a"}, engine{embedded: true, etcd: etcd.Config{Prefix: "/a"}}},
		{storeOptions{Store: "etcd://192.0.2.1:2379,192.0.2.2:2379", Prefix: "/a"}, engine{etcd: etcd.Config{Endpoints: []string{"192.0.2.1:2379", "192.0.2.2:2379"}, Prefix: "/a"}}},
		{storeOptions{Store: "etcd://[2001:db8::1]:2379"}, engine{etcd: etcd.Config{Endpoints: []string{"[2001:db8::1]:2379"}}}},
		{storeOptions{Store: "etcd+unix:///run/store"}, engine{etcd: etcd.Config{Endpoints: []string{"unix:///run/store"}}}},
		{storeOptions{Store: "zookeeper://192.0.2.1:2181"}, engine{zookeeper: zookeeper.Config{Servers: []string{"192.0.2.1:2181"}}}},
		{storeOptions{Store: "zookeeper://192.0.2.1:2181/"}, engine{zookeeper: zookeeper.Config{Servers: []string{"192.0.2.1:2181"}}}},
		{storeOptions{Store: "zookeeper://192.0.2.1:2181/", Prefix: "/a"}, engine{zookeeper: zookeeper.Config{Servers: []string{"192.0.2.1:2181"}, Root: "/zonecast/a"}}},
		{
			storeOptions{Store: "zookeeper://al:s@c:ret@zk1.example.net:2181,[2001:db8::1]:2181/dns/prod", Prefix: "/a"},
			engine{zookeeper: zookeeper.Config{Servers: []string{"zk1.example.net:2181", "[2001:db8::1]:2181"}, Root: "/dns/prod/a", Auth: "al:s@c:ret"}},
		},
		{storeOptions{Store: "proxy://192.0.2.1:7390,proxy.example.net:7390"}, engine{proxy: proxied.Config{Endpoints: []string{"192.0.2.1:7390", "proxy.example.net:7390"}}}},
		{storeOptions{Store: "proxy+tls://192.0.2.1:7390", Cert: "c", Key: "k"}, engine{proxy: proxied.Config{Endpoints: []string{"192.0.2.1:7390"}}, tls: true}},
		{storeOptions{Store: "proxy+unix:///run/agents"}, engine{proxy: proxied.Config{Endpoints: []string{"unix:/run/agents"}}}},
	} {
		got, err := c.options.engine()
		if err != nil {
			t.Errorf("%+v: %v", c.options, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(engine{}), cmpopts.IgnoreUnexported(zookeeper.Config{})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.options, diff)
		}
	}
}

// mistakes are what --store may not say, and what the error must name.
var mistakes = map[string]string{
	"192.0.2.1:2379":                       "there is no engine before it, as in etcd://192.0.2.1:2379",
	"consul://192.0.2.1:1":                 `there is no engine "consul"`,
	"://192.0.2.1:1":                       `there is no engine ""`,
	"embedded://.zonecast":                 "nothing stands behind embedded",
	"etcd://":                              "no server is named",
	"etcd://192.0.2.1":                     "192.0.2.1 has no port",
	"etcd://192.0.2.1:":                    `"192.0.2.1:" has no host or no port`,
	"etcd://192.0.2.1:2379,":               `a server of "192.0.2.1:2379," is empty`,
	"etcd://192.0.2.1:2379/zonecast":       "--store-prefix is one of etcd's",
	"etcd://al:secret@192.0.2.1:2379":      "a user can be given to ZooKeeper only",
	"etcd+unix://run":                      `"run" is no absolute path`,
	"zookeeper://":                         "zookeeper://[USER:PASSWORD@]HOST:PORT",
	"zookeeper://192.0.2.1":                "192.0.2.1",
	"zookeeper://192.0.2.1:2181,":          "zookeeper://[USER:PASSWORD@]HOST:PORT",
	"zookeeper://@192.0.2.1:2181":          "nothing stands before the @",
	"zookeeper://alice@192.0.2.1:2181":     "zookeeper://[USER:PASSWORD@]HOST:PORT",
	"zookeeper://192.0.2.1:2181/a//b":      "/a//b",
	"zookeeper://192.0.2.1:2181/zookeeper": "/zookeeper",
	"proxy://192.0.2.1":                    "192.0.2.1 has no port",
	"proxy+tls://":                         "no server is named",
	"proxy+unix://agents":                  `"agents" is no absolute path`,
}

// storeless are the commands that need nobody: they work on files, on a socket of this machine,
// or on what they are told.
var storeless = map[string]bool{
	"zonecast run authority": true, "zonecast run recursor": true, "zonecast run tinydns": true, "zonecast run beacon": true, "zonecast beacon import": true, "zonecast beacon show": true, "zonecast run store": true, "zonecast run example": true,
	"zonecast serve": true, "zonecast build": true, "zonecast check": true, "zonecast check image": true, "zonecast rules test": true,
	"zonecast config compile": true, "zonecast config from-zone": true, "zonecast config test": true,
	"zonecast config get": true, "zonecast config list": true, "zonecast config watch": true, // this machine's proxy
	"zonecast operator keygen": true, "zonecast key new": true, "zonecast key show": true, "zonecast host refused": true,
	"zonecast run host": true, "zonecast host doctor": true, "zonecast host options": true, "zonecast host exec": true, "zonecast man": true, // of one machine
	"zonecast map compute": true, "zonecast map diff": true, "zonecast map what-if": true, "zonecast map algorithms": true, "zonecast map picture": true, // of files
	"zonecast map why": true, // asks the mapper
}

// TestStoreEverywhere: every service and every command that needs the store, or the API that is
// found by it, takes --store in all its forms, and names what is wrong with others.
func TestStoreEverywhere(t *testing.T) {
	right := []string{
		"embedded", "etcd://192.0.2.1:2379,192.0.2.2:2379", "etcd+unix:///run/store", "zookeeper://192.0.2.1:2181,192.0.2.2:2181/dns/prod",
		"proxy://192.0.2.1:7390,192.0.2.2:7390", "proxy+tls://192.0.2.1:7390", "proxy+unix:///run/agents",
	}
	seen := 0
	root := newRoot(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		for _, c := range cmd.Commands() {
			visit(c)
		}
		if cmd.HasSubCommands() || cmd.Name() == "help" || storeless[path] || strings.HasPrefix(path, "zonecast completion") {
			return
		}
		if path == "zonecast store copy" { // has two of them, as arguments
			for mistake, text := range mistakes {
				root.SetArgs([]string{"store", "copy", mistake, "embedded"})
				if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s %s: error is %v, expected %q", path, mistake, err, text)
				}
			}
			seen++
			return
		}
		for _, option := range []string{"store", "dir", "store-prefix", "store-auth", "store-ca", "store-cert", "store-key"} {
			if cmd.Flags().Lookup(option) == nil {
				t.Errorf("%s has no --%s: declareStore gives it, or apiFinder; a command that needs no store belongs to storeless", path, option)
			}
		}
		if cmd.Flags().Lookup("store") == nil {
			return
		}
		seen++
		load := func(text string) string {
			err := service.Load(cmd, func(name string) (string, bool) {
				if name == "ZONECAST_STORE" {
					return text, true
				}
				return "", false
			}, "")
			if err == nil {
				return ""
			}
			for _, line := range strings.Split(err.Error(), "\n") {
				if strings.HasPrefix(line, "store ") {
					return line
				}
			}
			return "" // what else the command needs is not the question
		}
		for _, text := range right {
			if said := load(text); said != "" {
				t.Errorf("%s, --store %s: %s", path, text, said)
			}
		}
		for mistake, want := range mistakes {
			if said := load(mistake); !strings.Contains(said, want) {
				t.Errorf("%s, --store %s: error is %q, expected it to name %q", path, mistake, said, want)
			}
		}
	}
	visit(root)
	if seen < 40 {
		t.Errorf("%d commands were looked at, expected them all", seen)
	}
}

// Whoever leads is told at once that the proxy of a site will not do.
func TestLeadersNeedTheStore(t *testing.T) {
	for _, name := range []string{"registry", "mutator", "presenter"} {
		var out, errs bytes.Buffer
		if got := run(t.Context(), []string{"run", name, "--store", "proxy://192.0.2.1:7390"}, strings.NewReader(""), &out, &errs); got != exitUsage || !strings.Contains(errs.String(), "needs the store itself") {
			t.Errorf("run %s at a proxy: status %d, %s", name, got, errs.String())
		}
	}
}

// Where the store of a `zonecast up` is.
func TestEmbeddedSocket(t *testing.T) {
	dir := t.TempDir()
	if got, err := embeddedSocket(dir); err != nil || got != filepath.Join(dir, "store", "socket") {
		t.Errorf("before it runs: %q, %v", got, err)
	}
	for at, want := range map[string]string{"etcd+unix:///tmp/short/socket": "/tmp/short/socket", "zookeeper://192.0.2.1:2181": ""} {
		b, err := json.Marshal(endpoints{Store: at})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "endpoints.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := embeddedSocket(dir); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, expected %q", at, got, err, want)
		}
	}
	var errs bytes.Buffer
	if got := run(t.Context(), []string{"status", "--store", "embedded", "--dir", t.TempDir()}, strings.NewReader(""), &bytes.Buffer{}, &errs); got != exitFailed || !strings.Contains(errs.String(), "no store runs in") || !strings.Contains(errs.String(), "hint:") {
		t.Errorf("status of nothing: status %d, %s", got, errs.String())
	}
}
