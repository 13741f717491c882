package service_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/service"
)

// every has an option of each type.
type every struct {
	Text     string         `option:"text" help:"some text"`
	On       bool           `option:"on" help:"on or off"`
	Int      int            `option:"int" help:"a number"`
	Int64    int64          `option:"int64" help:"a large number"`
	Uint64   uint64         `option:"uint64" help:"a count"`
	Float    float64        `option:"float" help:"a ratio"`
	Pause    time.Duration  `option:"pause" help:"how long"`
	Listen   netip.AddrPort `option:"listen" help:"where"`
	Address  netip.Addr     `option:"address" help:"who"`
	Level    slog.Level     `option:"level" help:"how much"`
	Names    []string       `option:"names" help:"several"`
	Networks []netip.Prefix `option:"networks" help:"several networks"`
	Group    struct {
		Size int `option:"size" help:"of the group"`
	} `option:"group"`
	embedded
	NotOne chan int // has no tag and no part in it
}

type embedded struct {
	Inside string `option:"inside" help:"a field of an embedded struct"`
}

// newCommand gives a command with the flag --config and the options of cfg.
func newCommand(t testing.TB, section string, cfg any) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{Use: "zonecast", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	service.ConfigFlag(cmd)
	if err := service.Declare(cmd, section, cfg); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "zonecast.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// variables makes an environment.
func variables(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

func TestPrecedence(t *testing.T) {
	// All combinations of the three sources: the value is that of the highest.
	for bits := range 8 {
		for _, section := range []string{"", "presenter"} {
			cfg := every{Pause: time.Second, Names: []string{"default"}, Listen: netip.MustParseAddrPort("192.0.2.1:1")}
			cmd := newCommand(t, section, &cfg)
			flag, variable, table := "--", "ZONECAST_", ""
			if section != "" {
				flag, variable, table = "--presenter-", "ZONECAST_PRESENTER_", "[presenter]\n"
			}
			var args []string
			env := map[string]string{}
			file := ""
			want := every{Pause: time.Second, Names: []string{"default"}, Listen: netip.MustParseAddrPort("192.0.2.1:1")}
			from := "default"
			if bits&1 != 0 {
				file = writeFile(t, "# comment\n"+table+"pause = \"2s\"\nnames = [\n  \"file\",\n  \"2\"]\nlisten = \"192.0.2.2:2\"\n")
				line := 2
				if section != "" {
					line = 3
				}
				from = fmt.Sprintf("file %s:%d", file, line)
				want.Pause, want.Names, want.Listen = 2*time.Second, []string{"file", "2"}, netip.MustParseAddrPort("192.0.2.2:2")
			}
			if bits&2 != 0 {
				env = map[string]string{variable + "PAUSE": "3s", variable + "NAMES": "env, 3", variable + "LISTEN": "192.0.2.3:3"}
				from = "variable " + variable + "PAUSE"
				want.Pause, want.Names, want.Listen = 3*time.Second, []string{"env", "3"}, netip.MustParseAddrPort("192.0.2.3:3")
			}
			if bits&4 != 0 {
				args = []string{flag + "pause=4s", flag + "names=flag", flag + "names", "4", flag + "listen", "192.0.2.4:4"}
				from = "flag " + flag + "pause"
				want.Pause, want.Names, want.Listen = 4*time.Second, []string{"flag", "4"}, netip.MustParseAddrPort("192.0.2.4:4")
			}
			if err := cmd.ParseFlags(args); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second Load, as by help, changes nothing
				if err := service.Load(cmd, variables(env), file); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, cfg, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmp.AllowUnexported(every{})); diff != "" {
					t.Errorf("sources %03b, section %q (-want +got):\n%s", bits, section, diff)
				}
			}
			for _, o := range service.Origins(cmd) {
				switch o.Name {
				case "pause":
					if o.From != from || o.Value != formatted(want.Pause) || o.Default != "1s" {
						t.Errorf("sources %03b: origin %+v, want from %q", bits, o, from)
					}
				case "text":
					if o.From != "default" {
						t.Errorf("sources %03b: origin %+v, want the default", bits, o)
					}
				}
			}
		}
	}
}

func formatted(d time.Duration) string { return d.String() }

func TestEveryType(t *testing.T) {
	want := every{
		Text: "a \"b\"\n\\ ü", On: true, Int: -5, Int64: -1 << 40, Uint64: 1 << 40, Float: 1.5, Pause: 90 * time.Second,
		Listen: netip.MustParseAddrPort("[2001:db8::1]:53"), Address: netip.MustParseAddr("192.0.2.1"), Level: slog.LevelWarn + 1,
		Names: []string{"a", "b"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		embedded: embedded{Inside: "x"},
	}
	want.Group.Size = 7
	opts := []cmp.Option{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{}), cmp.AllowUnexported(every{})}
	texts := map[string]string{
		"text": want.Text, "on": "true", "int": "-5", "int64": "-1099511627776", "uint64": "1099511627776", "float": "1.5", "pause": "1m30s",
		"listen": "[2001:db8::1]:53", "address": "192.0.2.1", "level": "WARN+1", "names": "a,b", "networks": "192.0.2.0/24,2001:db8::/32",
		"group-size": "7", "inside": "x",
	}
	t.Run("flag", func(t *testing.T) {
		var got every
		cmd := newCommand(t, "", &got)
		var args []string
		for k, v := range texts {
			args = append(args, "--"+k+"="+v)
		}
		if err := cmd.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		if err := service.Load(cmd, variables(nil), ""); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, opts...); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("variable", func(t *testing.T) {
		var got every
		cmd := newCommand(t, "", &got)
		env := map[string]string{}
		for k, v := range texts {
			env["ZONECAST_"+strings.ToUpper(strings.ReplaceAll(k, "-", "_"))] = v
		}
		if err := service.Load(cmd, variables(env), ""); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, opts...); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	// The example file with its comment signs taken away gives the defaults.
	t.Run("file", func(t *testing.T) {
		for _, section := range []string{"", "presenter"} {
			defaults := want
			var b bytes.Buffer
			if err := service.Example(&b, newCommand(t, section, &defaults)); err != nil {
				t.Fatal(err)
			}
			var live []string
			options := 0
			for line := range strings.Lines(b.String()) {
				if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
					line = rest
					options++
				}
				live = append(live, line)
			}
			if options != len(texts) {
				t.Errorf("the example has %d options, want %d:\n%s", options, len(texts), b.String())
			}
			for name, text := range map[string]string{"commented": b.String(), "live": strings.Join(live, "")} {
				var got every
				if name == "commented" {
					got = want
				}
				if err := service.Load(newCommand(t, section, &got), variables(nil), writeFile(t, text)); err != nil {
					t.Fatalf("%s: %v\n%s", name, err, text)
				}
				if diff := cmp.Diff(want, got, opts...); diff != "" {
					t.Errorf("%s (-want +got):\n%s\n%s", name, diff, text)
				}
			}
		}
	})
}

func TestFileErrors(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"unknown key":        {"[sec]\n\n# comment\ntxt = \"a\"\n", "FILE:4: unknown key sec.txt; is sec.text meant?"},
		"far from any":       {"[sec]\nabcdefgh = 1\n", "FILE:2: unknown key sec.abcdefgh; [sec] has address, float, "},
		"unknown section":    {"[other]\nlisten = 1\n", "FILE:2: unknown key other.listen"},
		"above all sections": {"\nlisten = \"192.0.2.1:53\"\n", "FILE:2: unknown key listen"},
		"dotted":             {"sec.group.size = 1\n", "FILE:1: unknown key sec.group: tables are not nested"},
		"quoted":             {"\"sec.text\" = \"a\"\n", `FILE:1: unknown key "sec.text"`},
		"key as its table":   {"[sec]\nsec = 1\n", "FILE:2: unknown key sec.sec"},
		"array of tables":    {"[[sec]]\ntext = \"\"\n", "FILE:1: unknown key sec"},
		"after a long value": {"[sec]\nnames = [\n 'a',\n 'b',\n]\ntext = '''\nx\n[y]\nz=1'''\nwhat = 1\n", "FILE:10: unknown key sec.what"},
		"type":               {"[sec]\npause = 20\n", `FILE:2: sec.pause = 20: expected a duration such as 20ms or 1m30s in quotes, found a whole number`},
		"value":              {"[sec]\npause = \"20\"\n", `FILE:2: sec.pause = 20: expected a duration such as 20ms or 1m30s`},
		"bool in quotes":     {"[sec]\non = \"true\"\n", "FILE:2: sec.on = true: expected true or false, found text in quotes"},
		"float for int":      {"[sec]\nint = 1.5\n", "FILE:2: sec.int = 1.5: expected a whole number, found a number with a point"},
		"negative count":     {"[sec]\nuint64 = -1\n", "FILE:2: sec.uint64 = -1: expected a whole number, not negative"},
		"element":            {"[sec]\nnetworks = [\"192.0.2.0/24\", \"no\"]\n", "FILE:2: sec.networks = [192.0.2.0/24 no]: element 2: expected a prefix such as 192.0.2.0/24 or 2001:db8::/32"},
		"address":            {"[sec]\nlisten = \"localhost:53\"\n", "FILE:2: sec.listen = localhost:53: expected an address and a port such as 192.0.2.1:53"},
		"syntax":             {"[sec]\ntext = \n", "FILE:2:"},
		"twice":              {"[sec]\ntext = \"a\"\ntext = \"b\"\n", "FILE:3:"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var cfg every
			file := writeFile(t, tt.file)
			err := service.Load(newCommand(t, "sec", &cfg), variables(nil), file)
			want := strings.ReplaceAll(tt.want, "FILE", file)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v\nwant  %s", err, want)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		var cfg every
		err := service.Load(newCommand(t, "sec", &cfg), variables(map[string]string{"ZONECAST_SEC_INT": "x"}), writeFile(t, "[sec]\non = 1\nnone = 1\n"))
		for _, want := range []string{":2: sec.on = 1:", ":3: unknown key sec.none", `variable ZONECAST_SEC_INT = "x": expected a whole number`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v\nwant  %s", err, want)
			}
		}
	})
	t.Run("missing file", func(t *testing.T) {
		var cfg every
		if err := service.Load(newCommand(t, "sec", &cfg), variables(nil), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v, want %v", err, os.ErrNotExist)
		}
	})
	t.Run("too large", func(t *testing.T) {
		var cfg every
		if err := service.Load(newCommand(t, "sec", &cfg), variables(nil), writeFile(t, strings.Repeat("#\n", 1<<20))); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
			t.Errorf("error %v", err)
		}
	})
}

func TestFlagError(t *testing.T) {
	var cfg every
	err := newCommand(t, "sec", &cfg).ParseFlags([]string{"--sec-pause=20"})
	want := `invalid argument "20" for "--sec-pause" flag: expected a duration such as 20ms or 1m30s`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

// checked has a Validate.
type checked struct {
	Gather time.Duration `option:"gather" help:"how long a burst is gathered"`
	Max    int           `option:"max" help:"most at once"`
	Key    string        `option:"key" help:"a secret" secret:"true"`
	calls  int
}

func (c *checked) Validate() error {
	c.calls++
	var errs []error
	if c.Gather < 0 {
		errs = append(errs, service.Invalid("gather", "zero or more"))
	}
	if c.Max == 0 {
		errs = append(errs, errors.New("max and gather do not fit"))
	}
	return errors.Join(errs...)
}

func TestValidate(t *testing.T) {
	cfg := checked{Max: 1}
	cmd := newCommand(t, "presenter", &cfg)
	if err := cmd.ParseFlags([]string{"--presenter-gather=-5s"}); err != nil {
		t.Fatal(err)
	}
	err := service.Load(cmd, variables(map[string]string{"ZONECAST_PRESENTER_MAX": "0"}), "")
	for _, want := range []string{`presenter.gather = "-5s" (flag --presenter-gather): expected zero or more`, "options of [presenter]: max and gather do not fit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
	if cfg.calls != 1 {
		t.Errorf("Validate was called %d times, want once", cfg.calls)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	cfg := checked{Max: 1, Key: "hunter1"}
	cmd := newCommand(t, "", &cfg)
	service.Explain(cmd, variables(map[string]string{"ZONECAST_KEY": "hunter2"}))
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	if err := service.Load(cmd, variables(map[string]string{"ZONECAST_KEY": "hunter2"}), ""); err != nil {
		t.Fatal(err)
	}
	if cfg.Key != "hunter2" {
		t.Errorf("key %q", cfg.Key)
	}
	fmt.Fprint(&out, service.Origins(cmd))
	if err := service.Example(&out, cmd); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
}

// A file may have the options of every command of the program, and is checked for
// all of them whichever command reads it.
func TestOneFileForAllCommands(t *testing.T) {
	root := &cobra.Command{Use: "zonecast"}
	service.ConfigFlag(root)
	logs := service.DefaultLogOptions()
	if err := service.DeclarePersistent(root, "", &logs); err != nil {
		t.Fatal(err)
	}
	one, two := checked{Max: 1}, checked{Max: 1}
	a, b := &cobra.Command{Use: "a"}, &cobra.Command{Use: "b"}
	root.AddCommand(a, b)
	if err := errors.Join(service.Declare(a, "one", &one), service.Declare(b, "two", &two)); err != nil {
		t.Fatal(err)
	}
	text := "log-format = \"json\"\n[one]\nmax = 5\n[two]\nmax = 6\n"
	// The variable and the flag name the file, too.
	if err := a.ParseFlags(nil); err != nil {
		t.Fatal(err)
	}
	if err := service.Load(a, variables(map[string]string{"ZONECAST_CONFIG": writeFile(t, text)}), ""); err != nil {
		t.Fatal(err)
	}
	if one.Max != 5 || two.Max != 1 || logs.Format != "json" {
		t.Errorf("after a: one %d, two %d, logs %s", one.Max, two.Max, logs.Format)
	}
	if err := b.ParseFlags([]string{"--config", writeFile(t, text)}); err != nil {
		t.Fatal(err)
	}
	if err := service.Load(b, variables(map[string]string{"ZONECAST_CONFIG": "/none"}), ""); err != nil {
		t.Fatal(err)
	}
	if two.Max != 6 {
		t.Errorf("after b: two %d, want 6", two.Max)
	}
	for text, want := range map[string]string{
		"[two]\nmx = 6\n":     ":2: unknown key two.mx; is two.max meant?",
		"[two]\nmax = \"\"\n": ":2: two.max = : expected a whole number",
	} {
		if err := service.Load(a, variables(nil), writeFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	var out bytes.Buffer
	if err := service.Example(&out, root); err != nil {
		t.Fatal(err)
	}
	var headers []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "[") || strings.HasPrefix(line, "#log") {
			headers = append(headers, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff([]string{`#log-level = "INFO"`, `#log-format = "auto"`, `#log-source = false`, "[one]", "[two]"}, headers); diff != "" {
		t.Errorf("example (-want +got):\n%s", diff)
	}
}

func TestHelp(t *testing.T) {
	cfg := checked{Max: 1, Gather: 20 * time.Millisecond}
	cmd := newCommand(t, "presenter", &cfg)
	file := writeFile(t, "[presenter]\nmax = 3\n")
	service.Explain(cmd, variables(map[string]string{"ZONECAST_PRESENTER_GATHER": "1m", "ZONECAST_CONFIG": file}))
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--presenter-gather duration", "how long a burst is gathered [ZONECAST_PRESENTER_GATHER; presenter.gather]",
		"(now 1m, from variable ZONECAST_PRESENTER_GATHER)", "(default 20ms)",
		"(now 3, from file " + file + ":2)", "(default 1)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help has no %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	service.Explain(cmd, variables(map[string]string{"ZONECAST_PRESENTER_GATHER": "soon"}))
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `variable ZONECAST_PRESENTER_GATHER = "soon"`) {
		t.Errorf("help says nothing about the wrong variable:\n%s", out.String())
	}
}

func TestDeclareMistakes(t *testing.T) {
	tests := map[string]struct {
		section string
		cfg     any
		want    string
	}{
		"no pointer":  {"", every{}, "expected a pointer to a struct"},
		"nothing":     {"", &struct{ A int }{}, "has no field with the tag option"},
		"bad section": {"Sec", &checked{}, "does not match"},
		"bad name": {"", &struct {
			A int `option:"a_b" help:"x"`
		}{}, `the name "a_b" does not match`},
		"bad type": {"", &struct {
			A chan int `option:"a" help:"x"`
		}{}, "options of type chan int are not supported"},
		"no help": {"", &struct {
			A int `option:"a"`
		}{}, "option a has no help"},
		"twice": {"", &struct {
			A int `option:"a" help:"x"`
			B int `option:"a" help:"x"`
		}{}, "there is already a flag --a"},
		"not exported": {"", &struct {
			a int `option:"a" help:"x"`
		}{}, "it is not exported"},
		"the file's": {"", &struct {
			A int `option:"config" help:"x"`
		}{}, "there is already a flag --config"},
	}
	for name, tt := range tests {
		cmd := &cobra.Command{}
		cmd.Flags().String("config", "", "")
		if err := service.Declare(cmd, tt.section, tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestLogOptions(t *testing.T) {
	for _, tt := range []struct {
		opts service.LogOptions
		want string
	}{
		{service.LogOptions{Format: "text", Level: slog.LevelWarn}, "level=WARN msg=b k=1 took=1.2s"},
		{service.LogOptions{Format: "json", Level: slog.LevelWarn}, `"level":"WARN","msg":"b","k":1,"took":"1.2s"`},
		{service.LogOptions{Format: "auto", Level: slog.LevelWarn}, `"level":"WARN","msg":"b","k":1,"took":"1.2s"`}, // no terminal
		{service.LogOptions{Format: "json", Level: slog.LevelWarn, Source: true}, `option_test.go`},
	} {
		var b bytes.Buffer
		log, err := tt.opts.Logger(&b)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("a")
		log.Warn("b", "k", 1, "took", 1200*time.Millisecond)
		if got := b.String(); !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%+v: %q, want one line with %q", tt.opts, got, tt.want)
		}
	}
	if _, err := (service.LogOptions{Format: "xml"}).Logger(nil); err == nil {
		t.Error("format xml was taken")
	}
}

// However a file is laid out, an unknown key is reported at its line.
func TestUnknownKeyLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		filler := []string{"\n", "# comment\n", "text = \"x\"\n", "names = [\n'a', # c\n\n'b']\n", "inside = \"\"\"\n[x]\nzz = 1\n\"\"\"\n", "pause = '''1s'''\n"}
		parts := rapid.Permutation(filler).Draw(rt, "parts")
		at := rapid.IntRange(0, len(parts)).Draw(rt, "at")
		crlf := rapid.Bool().Draw(rt, "crlf")
		text := "[sec]\n" + strings.Join(parts[:at], "")
		line := strings.Count(text, "\n") + 1
		text += "zz = [\n1,\n2]\n" + strings.Join(parts[at:], "")
		if crlf {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
		var cfg every
		err := service.Load(newCommand(t, "sec", &cfg), variables(nil), writeFile(t, text))
		if want := fmt.Sprintf(":%d: unknown key sec.zz", line); err == nil || !strings.Contains(err.Error(), want) {
			rt.Fatalf("error %v, want %s in it; file:\n%s", err, want, text)
		}
	})
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "[sec]\ntext = \"a\"\n", "[sec]\nnames = ['a']\n[sec.x]\na.b = 1\n", "sec = {text = \"a\"}", "[[sec]]\n[[sec]]\n", "a.b.c = 1\n\"q.r\" = 2", "sec.text = 'x'\nsec.int = 0x10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var cfg every
		cmd := newCommand(t, "sec", &cfg)
		if err := service.Load(cmd, variables(nil), writeFile(t, text)); err != nil {
			if strings.Contains(err.Error(), ".toml:0:") {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		if slices.ContainsFunc(service.Origins(cmd), func(o service.Origin) bool { return strings.HasSuffix(o.From, ":0") }) {
			t.Errorf("an origin without a line: %+v", service.Origins(cmd))
		}
	})
}
