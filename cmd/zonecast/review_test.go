package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/configurator"
	"github.com/zonecast/zonecast/configurator/front"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/rules"
)

// TestReviewScripts are the commands of review and landing against a server of their own: a
// repository, the compiler and the service, without anything that publishes. A script with a
// file "operators" has one that lets those alone act. Beside testscript's there is
//
//	exits N COMMAND…    the command's status is N
//	digest NAME N       the variable NAME is the digest of the plan of proposal N
//	setenv NAME FILE    the variable NAME is what a file has
//	append FILE         the last output goes to the end of a file
//	beginning NAME TEXT the variable NAME is half of a text
//	large FILE          the file is larger than a proposal may be
func TestReviewScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/review",
		Setup: func(env *testscript.Env) error {
			addr, stop, err := reviewServer(env.WorkDir)
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Setenv("ZONECAST_API", addr)
			for _, v := range []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=alice", "GIT_AUTHOR_EMAIL=alice@example.net", "GIT_COMMITTER_NAME=alice", "GIT_COMMITTER_EMAIL=alice@example.net"} {
				name, value, _ := strings.Cut(v, "=")
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"digest": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Exec("zonecast", "config", "review", args[1], "--json"))
				var v struct{ Plan struct{ Digest string } }
				ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
				ts.Setenv(args[0], v.Plan.Digest)
			},
			"setenv": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
			},
			"beginning": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], args[1][:len(args[1])/2]) },
			"large": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, front.MaxContent+1), 0o644))
			},
			"append": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[0])+ts.ReadFile("stdout")), 0o644))
			},
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				want, err := strconv.Atoi(args[0])
				if err != nil || neg {
					ts.Fatalf("usage: exits N COMMAND…")
				}
				err = ts.Exec(args[1], args[2:]...)
				got := 0
				var status *exec.ExitError
				if errors.As(err, &status) {
					got = status.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("status %d, want %d\n%s", got, want, ts.ReadFile("stderr"))
				}
			},
		},
	})
}

// reviewServer serves a new repository in dir/server.
func reviewServer(dir string) (addr string, stop func(), err error) {
	st := memstore.New()
	log := slog.New(slog.DiscardHandler)
	cfg := configurator.DefaultConfig()
	cfg.Dir, cfg.SessionTTL = filepath.Join(dir, "server", "config.git"), time.Second
	var verify func(who string, statement, signature []byte) error
	if file := filepath.Join(dir, "operators"); fileThere(file) {
		verify = func(who string, statement, signature []byte) error {
			all, err := operator.Load(file)
			if err != nil {
				return err
			}
			return all.VerifyText(who, "config", statement, signature)
		}
	}
	s, err := configurator.New(cfg, configurator.Deps{Store: st, Log: log, Metrics: prometheus.NewRegistry(), Rules: rules.DefaultParams(), Consider: consider, Verify: verify})
	if err != nil {
		return "", nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { s.Run(ctx) })
	all.Go(func() {
		api.Serve(ctx, ln, map[string]thrift.TProcessor{
			api.ConfigurationService: configapi.NewConfigurationProcessor(front.New(s, verify)),
			api.ControlService:       controlapi.NewControlProcessor(arrived{}),
		}, api.DefaultServerConfig(), log)
	})
	stop = func() { cancel(); all.Wait(); st.Close() }
	return ln.Addr().String(), stop, nil
}

func fileThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// consider has the claims that move for the records that change.
func consider(_ context.Context, changes []plan.Change, configs []plan.Config, deep bool) (*plan.Plan, error) {
	var moves []plan.Move
	zone := plan.Zone{Name: "example.net."}
	for _, c := range changes {
		moves = append(moves, plan.Moves(c)...)
	}
	p := &plan.Plan{Configurations: configs}
	for _, m := range moves {
		if m.After != nil && m.Before == nil {
			p.Come++
			zone.Added++
			zone.Records = append(zone.Records, plan.Record{Owner: m.After.Owner.String(), Type: m.After.Type.String(), Kind: plan.Added, After: &plan.Set{TTL: m.After.TTL, Data: []string{"data"}}})
		} else {
			p.Go++
			zone.Removed++
		}
	}
	if len(moves) > 0 {
		p.Zones, p.ZoneCount, p.Total = []plan.Zone{zone}, 1, plan.Counts{Added: zone.Added, Removed: zone.Removed}
	}
	p.Digest = plan.DigestOf(configs, moves)
	return p, nil
}

// arrived is a control that says of every revision of claims that it is everywhere.
type arrived struct{ controlapi.Control }

func (arrived) Wait(_ context.Context, revision int64, kind, _ string, _ int32) (*controlapi.Arrival, error) {
	if revision == 0 || kind != "claims" {
		return nil, api.Refuse(api.Invalid, "", "revision %d of %s", revision, kind)
	}
	return &controlapi.Arrival{Version: 7, Hosts: 3, Done: true}, nil
}

func TestConfirm(t *testing.T) {
	for in, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "\n": false, "": false, "no\n": false, "yeah\n": false, strings.Repeat(" ", 2000) + "y\n": false} {
		var out bytes.Buffer
		if got, err := confirm(strings.NewReader(in), &out, "so? "); got != want || err != nil || out.String() != "so? " {
			t.Errorf("%.10q: %v, %v, %q", in, got, err, out.String())
		}
	}
}

// TestWorkPaths are paths that a server may have written to, and others.
func TestWorkPaths(t *testing.T) {
	for _, good := range []string{"a", "zones/example.net.star", "OWNERS", "a.zonecast", ".gitignore", "ü/b"} {
		if err := checkWorkPath(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", ".git", ".git/hooks/x", "a/.GIT/x", ".zonecast/checkout.json", ".Zonecast/x", "a\nb", "a\x00", `a\b`, "\xff"} {
		if err := checkWorkPath(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// FuzzWorkPath wants what is taken to stay below a directory, out of what is not the
// configuration's.
func FuzzWorkPath(f *testing.F) {
	for _, s := range []string{"a", "../a", "a/../../b", ".git/x", ".zonecast", "a//b", "/x", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkWorkPath(p) != nil {
			return
		}
		parts := strings.Split(p, "/")
		if !filepath.IsLocal(p) || filepath.Clean(p) != p || strings.EqualFold(parts[0], markerDir) || slices.ContainsFunc(parts, func(s string) bool { return strings.EqualFold(s, ".git") }) || strings.ContainsAny(p, "\x00\n\x1b") {
			t.Errorf("%q is taken", p)
		}
	})
}

// liar is a server of files that are not what it says.
type liar struct {
	configapi.Configuration
	files    []*configapi.File
	contents []*configapi.Edit
}

func (l *liar) Tree(context.Context, string, string, int32) (*configapi.Tree, error) {
	return &configapi.Tree{Commit: strings.Repeat("5e", 20), Files: l.files}, nil
}

func (l *liar) Contents(context.Context, string, []string) ([]*configapi.Edit, error) {
	return l.contents, nil
}

// A server that means harm cannot make a checkout write elsewhere, or something else than it
// said, and what is there stays.
func TestCheckoutOfALiar(t *testing.T) {
	content := []byte("x")
	files := func(paths ...string) (list []*configapi.File) {
		for _, p := range paths {
			list = append(list, &configapi.File{Path: p, Hash: sumOf(content), Size: 1})
		}
		return list
	}
	gives := func(path, content string) []*configapi.Edit {
		return []*configapi.Edit{{Path: path, Content: []byte(content)}}
	}
	for _, tt := range []struct {
		what string
		liar liar
		says string
	}{
		{"above", liar{files: files("../evil")}, `path "../evil": is none that a file of the configuration may have`},
		{"from the root", liar{files: files("/tmp/evil")}, `path "/tmp/evil": is none`},
		{"git's", liar{files: files("a/.git/hooks/post-checkout")}, `path "a/.git/hooks/post-checkout": is none`},
		{"its own", liar{files: files(".zonecast/checkout")}, `path ".zonecast/checkout": is none`},
		{"hidden", liar{files: files("a\x1b[2Jb")}, `path "a\x1b[2Jb": is none`},
		{"through a link", liar{files: files("link/evil"), contents: gives("link/evil", "x")}, "link"},
		{"over a link", liar{files: files("link"), contents: gives("link", "x")}, "link is no regular file"},
		{"another content", liar{files: files("a"), contents: gives("a", "y")}, `the server gave something else than file "a" of commit 5e5e5e5e5e5e`},
		{"another file", liar{files: files("a"), contents: gives("../evil", "x")}, `the server gave something else than file "a" of commit 5e5e5e5e5e5e`},
		{"no content", liar{files: files("a")}, "commit 5e5e5e5e5e5e has no file a"},
		{"more contents", liar{files: files("a"), contents: append(gives("a", "y"), gives("b", "x")...)}, `the server gave something else than file "a"`},
	} {
		dir, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		s := &session{Client: &api.Client{Configuration: &tt.liar}}
		w := &workdir{dir: dir, local: map[string]string{}}
		to, err := treeOf(t.Context(), s, "")
		if err == nil {
			_, err = w.update(t.Context(), s, to, true)
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v, want %s", tt.what, err, tt.says)
		}
		var found []string
		for _, root := range []string{dir, outside} {
			err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					found = append(found, e.Name())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(found, []string{"link"}) {
			t.Errorf("%s: the files %q are there", tt.what, found)
		}
	}
}

// What a directory remembers is read without trust.
func TestMarker(t *testing.T) {
	commit := strings.Repeat("5e", 20)
	if _, err := readMarker([]byte(`{"commit":"` + commit + `","files":{"a":"` + commit + `"}}`)); err != nil {
		t.Error(err)
	}
	for text, says := range map[string]string{
		"{":  "unexpected end of JSON input",
		`{}`: `commit "": expected 40 hexadecimal digits`,
		`{"commit":"` + commit + `","files":{"../x":"` + commit + `"}}`: `path "../x": is none that a file of the configuration may have`,
		`{"commit":"` + commit + `","files":{"x":"00"}}`:                `x: commit "00": expected 40 hexadecimal digits`,
	} {
		if _, err := readMarker([]byte(text)); err == nil || err.Error() != says {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
}
