package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/fromzone"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/record"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "configuration as code",
		Long: `config works on a tree of configuration: programs in Starlark (*.star) that export values of types in Thrift IDL (*.thrift), with
validators (<Type>.validate.star) and tests (*_test.star). docs/configuration.md teaches the language. Programs of a machine get what landed from its
proxy (zonecast run proxy): get, list and watch ask it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newConfigCompile(), newConfigTest(), newConfigFromZone(), newConfigGet(), newConfigList(), newConfigWatch())
	cmd.AddCommand(reviewCommands()...)
	return cmd
}

// configOptions are those of every command that compiles here.
type configOptions struct {
	JSON bool `option:"json" help:"print JSON and nothing else"`
}

// compiledView is what `config compile` says, as JSON.
type compiledView struct {
	Configs []configView  `json:"configs"`
	Printed []printedView `json:"printed"`
	Files   int           `json:"files"` // that configurations came from
	Ms      float64       `json:"ms"`
}

type configView struct {
	Path    string   `json:"path"`
	Type    string   `json:"type"`
	Size    int      `json:"size"`    // octets of its JSON
	Records int      `json:"records"` // in its claims
	Sources []string `json:"sources"`
}

type printedView struct {
	Place string `json:"place"`
	Text  string `json:"text"`
}

func newConfigCompile() *cobra.Command {
	var o configOptions
	bounds := compile.DefaultOptions()
	var out string
	var check bool
	cmd := &cobra.Command{
		Use:   "compile DIR",
		Short: "compile a tree, validators included",
		Long: `compile runs the programs of a tree and the validators of what they export. Either the whole tree compiles or each error is told
with file:line:column, and nothing is written.

With --out each configuration is a file <path>.json of that directory, with its type, its sources and its value (docs/format/values.md); files of
configurations that are gone are removed. With --check nothing is written: the status is 1 when a file is other than it should be.`,
		Example: `  zonecast config compile .
  zonecast config compile . --out build --check`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			if check && out == "" {
				return misused(cmd, errors.New("--check compares with the files of --out, which is missing"))
			}
			began := time.Now()
			c := compile.New(bounds)
			defer c.Close()
			r, err := compileDir(cmd, c, args[0])
			if err != nil {
				return err
			}
			if out != "" {
				if err := writeConfigs(out, r, check); err != nil {
					return err
				}
			}
			return printCompiled(cmd, o, r, began)
		},
	}
	declare(cmd, "", &o)
	declare(cmd, "compile", &bounds)
	cmd.Flags().StringVarP(&out, "out", "o", "", "directory for the configurations")
	cmd.Flags().BoolVar(&check, "check", false, "compare with what is in --out instead of writing it")
	return cmd
}

// compileDir compiles a directory; the error is for people.
func compileDir(cmd *cobra.Command, c *compile.Compiler, dir string) (*compile.Result, error) {
	tree, err := dirTree(dir)
	if err != nil {
		return nil, err
	}
	r, err := c.Compile(cmd.Context(), tree, nil, nil)
	return r, wrongTree(cmd.ErrOrStderr(), dir, err)
}

func dirTree(dir string) (fs.FS, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is no directory, expected one with *.star and *.thrift files", dir)
	}
	return os.DirFS(dir), nil
}

// wrongTree prints the errors of a tree, each at the beginning of a line, as editors
// want it.
func wrongTree(w io.Writer, dir string, err error) error {
	var errs compile.Errors
	if !errors.As(err, &errs) {
		return err
	}
	for line := range strings.Lines(errs.Error() + "\n") {
		fmt.Fprintln(w, plain(strings.TrimSuffix(line, "\n")))
	}
	return fmt.Errorf("%s does not compile: %s", dir, count(len(errs), "error"))
}

func records(claims []record.Claim) int {
	n := 0
	for _, c := range claims {
		n += len(c.Data)
	}
	return n
}

func printCompiled(cmd *cobra.Command, o configOptions, r *compile.Result, began time.Time) error {
	v := compiledView{Configs: []configView{}, Printed: viewPrinted(r.Printed), Files: len(r.Files())}
	all, zones := 0, 0
	for _, c := range r.Configs {
		n := records(c.Claims)
		all += n
		if c.Type == "zonecast.Zone" {
			zones++
		}
		v.Configs = append(v.Configs, configView{c.Path, c.Type, len(c.JSON), n, c.Sources})
	}
	v.Ms = milliseconds(time.Since(began))
	if o.JSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	for _, p := range v.Printed {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", plain(p.Place), plain(p.Text))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s of %s: %s, %s (%.0f ms)\n", count(len(v.Configs), "configuration"), count(v.Files, "file"), count(zones, "zone"), count(all, "record"), v.Ms)
	return nil
}

func viewPrinted(all []compile.Printed) []printedView {
	v := []printedView{}
	for _, p := range all {
		v = append(v, printedView{p.Pos.String(), p.Text})
	}
	return v
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// written is the file of an --out directory that lists what was written there.
const written = ".zonecast-config.json"

// configFile is what a file of --out has.
type configFile struct {
	Type    string          `json:"type"`
	Sources []string        `json:"sources"`
	Value   json.RawMessage `json:"value"`
}

// encodePlain is JSON without HTML's escapes: what is inside stays as it is.
func encodePlain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// writeConfigs makes the files of a directory those of the result, or says where they are
// not.
func writeConfigs(dir string, r *compile.Result, check bool) error {
	before := map[string]bool{}
	b, err := os.ReadFile(filepath.Join(dir, written))
	switch {
	case err == nil:
		var paths []string
		if err := json.Unmarshal(b, &paths); err != nil {
			return fmt.Errorf("read %s: %w", filepath.Join(dir, written), err)
		}
		for _, p := range paths {
			if !fs.ValidPath(p) {
				return fmt.Errorf("%s has the path %q", filepath.Join(dir, written), p)
			}
			before[p] = true
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if all, err := os.ReadDir(dir); err == nil && len(all) > 0 {
			return hinted{fmt.Errorf("%s has other files in it", dir), "--out wants a directory of its own, or one that it has written before"}
		}
	}
	var paths, differ []string
	for _, c := range r.Configs {
		paths = append(paths, c.Path)
		want, err := encodePlain(configFile{c.Type, c.Sources, c.JSON})
		if err != nil {
			return err
		}
		file := filepath.Join(dir, filepath.FromSlash(c.Path)+".json")
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, want) {
			continue
		}
		if check {
			differ = append(differ, c.Path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := atomicfile.Write(file, 0o644, want); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(func(yield func(string) bool) {
		for p := range before {
			if !slices.Contains(paths, p) && !yield(p) {
				return
			}
		}
	}) {
		if check {
			differ = append(differ, p)
			continue
		}
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(p)+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if check {
		if len(differ) > 0 {
			return hinted{fmt.Errorf("%s is not what the tree gives: %s", dir, strings.Join(differ, ", ")), "the same command without --check writes it anew"}
		}
		return nil
	}
	if b, err = json.Marshal(paths); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, written), 0o644, append(b, '\n'))
}

// testedView is what `config test` says, as JSON.
type testedView struct {
	Passed int        `json:"passed"`
	Failed int        `json:"failed"`
	Tests  []testView `json:"tests"`
	Ms     float64    `json:"ms"`
}

type testView struct {
	Place   string        `json:"place"`
	Name    string        `json:"name"`
	Error   string        `json:"error,omitempty"` // empty: it passed
	Printed []printedView `json:"printed"`
}

func newConfigTest() *cobra.Command {
	var o configOptions
	bounds := compile.DefaultOptions()
	cmd := &cobra.Command{
		Use:     "test DIR",
		Short:   "run the tests of a tree",
		Long:    `test compiles a tree and runs the functions test_… of its *_test.star files. The status is 1 when one fails.`,
		Example: `  zonecast config test .`,
		Args:    exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			began := time.Now()
			c := compile.New(bounds)
			defer c.Close()
			tree, err := dirTree(args[0])
			if err != nil {
				return err
			}
			all, err := c.Test(cmd.Context(), tree)
			if err != nil {
				return wrongTree(cmd.ErrOrStderr(), args[0], err)
			}
			return printTested(cmd, o, all, began)
		},
	}
	declare(cmd, "", &o)
	declare(cmd, "compile", &bounds)
	return cmd
}

func printTested(cmd *cobra.Command, o configOptions, all []compile.TestResult, began time.Time) error {
	v := testedView{Tests: []testView{}}
	for _, t := range all {
		x := testView{Place: t.Pos.String(), Name: t.Name, Printed: viewPrinted(t.Printed)}
		if t.Err != nil {
			v.Failed++
			x.Error = t.Err.Error()
		} else {
			v.Passed++
		}
		v.Tests = append(v.Tests, x)
	}
	v.Ms = milliseconds(time.Since(began))
	failed := fmt.Errorf("%s failed", count(v.Failed, "test"))
	if o.JSON {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(v); err != nil || v.Failed == 0 {
			return err
		}
		return failed
	}
	out := cmd.OutOrStdout()
	for _, t := range v.Tests {
		for _, p := range t.Printed {
			fmt.Fprintf(out, "%s: %s\n", plain(p.Place), plain(p.Text))
		}
		if t.Error != "" {
			fmt.Fprintf(out, "FAIL %s %s\n", plain(t.Place), plain(t.Name))
			for line := range strings.Lines(t.Error) {
				fmt.Fprintf(out, "  %s\n", plain(strings.TrimSuffix(line, "\n")))
			}
		}
	}
	fmt.Fprintf(out, "%s passed, %d failed (%.0f ms)\n", count(v.Passed, "test"), v.Failed, v.Ms)
	if v.Failed > 0 {
		return failed
	}
	return nil
}

// movedView is what `config from-zone` says, as JSON.
type movedView struct {
	Zones []movedZone `json:"zones"`
}

type movedZone struct {
	File    string `json:"file"`
	Zone    string `json:"zone"`
	Records int    `json:"records"`
	Program string `json:"program"`
	Lines   int    `json:"lines"`
}

func newConfigFromZone() *cobra.Command {
	var o configOptions
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "from-zone FILE…",
		Short: "write zone files as programs",
		Long: `from-zone writes each zone file as a program <zone>.star into --out, which exports the same records: it compiles them and compares
before anything is written. $INCLUDE and $GENERATE are resolved, comments are kept. The file's name says the zone's ("example.net", "example.net.zone" or
"db.example.net") unless $ORIGIN in it does.`,
		Example: `  zonecast config from-zone /etc/bind/zones/* --out zones`,
		Args:    atLeastOneFile("config from-zone"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			if out == "" {
				return misused(cmd, errors.New("--out is missing: the directory for the programs"))
			}
			v, err := moveZones(cmd.Context(), args, out, force)
			if err != nil {
				return err
			}
			if o.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			all := 0
			for _, z := range v.Zones {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s: %s\n", plain(z.Program), z.Zone, count(z.Records, "record"), count(z.Lines, "line"))
				all += z.Records
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s, %s, compiled back to the same records\n", count(len(v.Zones), "zone"), count(all, "record"))
			return nil
		},
	}
	declare(cmd, "", &o)
	cmd.Flags().StringVarP(&out, "out", "o", "", "directory for the programs")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite programs that are there")
	return cmd
}

// moveZones writes zone files as programs into a directory, all or none.
func moveZones(ctx context.Context, files []string, out string, force bool) (movedView, error) {
	v := movedView{Zones: []movedZone{}}
	tree := fstest.MapFS{}
	var failed error
	programs := map[string]*fromzone.Program{}
	for _, file := range files {
		p, err := fromzone.Write(os.DirFS(filepath.Dir(file)), filepath.Base(file))
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if tree[p.Name] != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: zone %s would be written to %s, as another one", file, p.Zone.Apex, p.Name))
			continue
		}
		target := filepath.Join(out, p.Name)
		if _, err := os.Lstat(target); err == nil && !force {
			failed = errors.Join(failed, hinted{fmt.Errorf("%s is there already", target), "--force overwrites it"})
		}
		tree[p.Name] = &fstest.MapFile{Data: []byte(p.Text)}
		programs[strings.TrimSuffix(p.Name, ".star")] = p
		v.Zones = append(v.Zones, movedZone{file, p.Zone.Apex.String(), p.Zone.Records, target, strings.Count(p.Text, "\n")})
	}
	if failed != nil {
		return v, failed
	}
	c := compile.New(compile.Options{})
	defer c.Close()
	r, err := c.Compile(ctx, tree, nil, nil)
	if err != nil {
		return v, fmt.Errorf("what was written does not compile, which is a mistake in zonecast: %w", err)
	}
	for _, config := range r.Configs {
		p := programs[config.Path]
		if p == nil || !slices.EqualFunc(p.Zone.Claims, config.Claims, func(a, b record.Claim) bool { return a.RRset.Equal(b.RRset) }) {
			return v, fmt.Errorf("%s: what was written has other records than the zone file, which is a mistake in zonecast", config.Path)
		}
	}
	if len(r.Configs) != len(programs) {
		return v, fmt.Errorf("%d of %d zones were compiled, which is a mistake in zonecast", len(r.Configs), len(programs))
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return v, err
	}
	for name, f := range tree {
		if err := atomicfile.Write(filepath.Join(out, name), 0o644, f.Data); err != nil {
			return v, err
		}
	}
	return v, nil
}
