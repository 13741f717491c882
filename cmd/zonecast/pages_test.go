package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Options and commands that the pages about outside users name are there.
func TestPagesOfUsers(t *testing.T) {
	flags, commands := map[string]bool{"--help": true}, map[string]bool{}
	flag := regexp.MustCompile(`--[a-z][a-z0-9-]*`)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		commands[cmd.CommandPath()] = true
		for _, m := range flag.FindAllString(cmd.LocalFlags().FlagUsages(), -1) {
			flags[m] = true
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot(strings.NewReader(""), io.Discard, io.Discard))
	option := regexp.MustCompile(`(^|[\s\x60(])(--[a-z][a-z0-9-]*)`)
	command := regexp.MustCompile(`zonecast ([a-z][a-z-]*)( [a-z][a-z-]*)?`)
	for _, page := range []string{"beacon.md", "mapper.md", "maps.md", "mapformats.md", "steering.md"} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		found := option.FindAllStringSubmatch(string(b), -1)
		if len(found) < 2 {
			t.Errorf("%s names %d options", page, len(found))
		}
		for _, m := range found {
			if !flags[m[2]] {
				t.Errorf("%s names %s, which no command has", page, m[2])
			}
		}
		for _, m := range command.FindAllStringSubmatch(string(b), -1) {
			if path := "zonecast " + m[1]; commands[path] && m[2] != "" && hasCommands(commands, path) && !commands[path+m[2]] {
				t.Errorf("%s has `%s%s`, which is no command", page, path, m[2])
			}
		}
	}
}

func hasCommands(commands map[string]bool, path string) bool {
	for c := range commands {
		if strings.HasPrefix(c, path+" ") {
			return true
		}
	}
	return false
}
