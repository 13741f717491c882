package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(sandboxed()) // children are started from this binary
	testscript.Main(m, map[string]func(){"zonecast": main})
}

// TestScripts are the commands that need no daemon, over the real main.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// The example file is valid with every option written out, and changes nothing.
func TestExampleIsValid(t *testing.T) {
	var example, said bytes.Buffer
	if status := run(context.Background(), []string{"run", "example"}, nil, &example, &said); status != exitDone {
		t.Fatal(said.String())
	}
	lines := regexp.MustCompile(`(?m)^#([a-z][a-z0-9-]* = )`).ReplaceAllString(example.String(), "$1")
	if lines == example.String() {
		t.Fatal("the example has no option")
	}
	file := t.TempDir() + "/zonecast.toml"
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	var out bytes.Buffer
	if status := run(context.Background(), []string{"check", "--config", file, "/nonexistent"}, nil, &out, &said); status != exitFailed || !strings.Contains(said.String(), "no such file") {
		t.Errorf("status %d: %s", status, said.String())
	}
}

// Every command has a help that says what it does, and an unknown flag is the
// user's mistake.
func TestEveryCommand(t *testing.T) {
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		var out, said bytes.Buffer
		if status := run(context.Background(), append(path, "--help"), nil, &out, &said); status != exitDone || !strings.Contains(out.String(), "--config") || said.Len() > 0 {
			t.Errorf("%q --help: status %d, %s%s", path, status, out.String(), said.String())
		}
		out.Reset()
		if status := run(context.Background(), append(path, "--no-such-flag"), nil, &out, &said); status != exitUsage || !strings.Contains(said.String(), "hint: see zonecast") {
			t.Errorf("%q --no-such-flag: status %d, %s%s", path, status, out.String(), said.String())
		}
		for _, sub := range c.Commands() {
			walk(sub, append(path[:len(path):len(path)], sub.Name()))
		}
	}
	walk(newRoot(nil, nil, nil), nil)
}
