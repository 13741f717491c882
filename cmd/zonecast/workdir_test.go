package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
)

// pages is a server whose lists have many pages.
type pages struct {
	configapi.Configuration // what is not asked for
	tree                    func(commit, after string) *configapi.Tree
}

func (p pages) Tree(_ context.Context, commit, after string, _ int32) (*configapi.Tree, error) {
	return p.tree(commit, after), nil
}

func (pages) Repository(context.Context) (*configapi.Repository, error) {
	return &configapi.Repository{Branch: "main"}, nil
}

// commitOf is the n-th commit of a branch of 5.
func commitOf(n int) string { return fmt.Sprintf("%040d", n) }

func (pages) Log(_ context.Context, start, _ string, limit int32) (*configapi.LogPage, error) {
	n := 5
	if start != "" {
		if _, err := fmt.Sscanf(start, "%040d", &n); err != nil || len(start) != 40 {
			return nil, api.Refuse(api.Invalid, "", "start is %q", start)
		}
	}
	out := &configapi.LogPage{Landings: []*configapi.Landing{}}
	for ; n > 0 && limit > 0; n, limit = n-1, limit-1 {
		out.Landings = append(out.Landings, &configapi.Landing{Commit: commitOf(n), Title: fmt.Sprint("change ", n), Approved: []string{}})
	}
	if n > 0 {
		out.Rest = commitOf(n)
	}
	return out, nil
}

func (pages) Proposals(_ context.Context, below, limit int32, _ []string) (*configapi.ProposalPage, error) {
	if below == 0 {
		below = 6
	}
	out := &configapi.ProposalPage{Proposals: []*configapi.Proposal{}}
	for below--; below > 0 && limit > 0; below, limit = below-1, limit-1 {
		out.Proposals = append(out.Proposals, &configapi.Proposal{Number: below, Title: fmt.Sprint("change ", below), Events: []*configapi.Event{}})
		out.Rest = below
	}
	if below == 0 {
		out.Rest = 0
	}
	return out, nil
}

// serving gives the address of a server of c.
func serving(t *testing.T, c configapi.Configuration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- api.Serve(ctx, ln, map[string]thrift.TProcessor{api.ConfigurationService: configapi.NewConfigurationProcessor(c)}, api.DefaultServerConfig(), slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestPagesGoOn: what a list says at its end, as a command's option, gives the next page, and
// nothing is on two pages or on none.
func TestPagesGoOn(t *testing.T) {
	addr := serving(t, pages{})
	for _, list := range []string{"log", "proposals"} {
		var seen []string
		more := []string{}
		for range 3 {
			var out, said bytes.Buffer
			if status := run(t.Context(), slices.Concat([]string{"config", list, "--api", addr, "--limit", "2"}, more), nil, &out, &said); status != exitDone {
				t.Fatalf("%s %q: status %d, %s", list, more, status, said.String())
			}
			seen = append(seen, regexp.MustCompile(`change \d`).FindAllString(out.String(), -1)...)
			end := regexp.MustCompile(`(?m)^… (--\S+) (\S+) goes on$`).FindStringSubmatch(out.String())
			if end == nil {
				break
			}
			more = end[1:]
		}
		if got, want := strings.Join(seen, " "), "change 5 change 4 change 3 change 2 change 1"; got != want {
			t.Errorf("%s has %s, want %s", list, got, want)
		}
	}
}

// TestTreeOf: a tree is read by its pages, all of one commit, and a server cannot make that
// endless.
func TestTreeOf(t *testing.T) {
	file := func(names ...string) (files []*configapi.File) {
		for _, n := range names {
			files = append(files, &configapi.File{Path: n, Hash: "hash of " + n})
		}
		return files
	}
	var asked []string
	good := func(commit, after string) *configapi.Tree {
		asked = append(asked, commit+" "+after)
		switch after {
		case "":
			return &configapi.Tree{Commit: commitOf(1), Files: file("a", "b"), Rest: "b"}
		case "b":
			return &configapi.Tree{Commit: commitOf(1), Files: file("c", "d"), Rest: "d"}
		}
		return &configapi.Tree{Commit: commitOf(1), Files: file("e")}
	}
	m, err := treeOf(t.Context(), &session{Client: &api.Client{Configuration: pages{tree: good}}}, "")
	if err != nil || m.Commit != commitOf(1) || len(m.Files) != 5 || m.Files["d"] != "hash of d" {
		t.Errorf("%+v, %v", m, err)
	}
	if got, want := strings.Join(asked, ","), " ,"+commitOf(1)+" b,"+commitOf(1)+" d"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	pageNumber := 0
	for want, tree := range map[string]func(commit, after string) *configapi.Tree{
		"the server gave files of commit 000000000000 up to \"\", asked for those of 000000000000 behind \"a\"": func(_, after string) *configapi.Tree {
			if after == "" {
				return &configapi.Tree{Commit: commitOf(1), Files: file("a"), Rest: "a"}
			}
			return &configapi.Tree{Commit: commitOf(2), Files: file("b")}
		},
		"the server gave files of commit 000000000000 up to \"a\", asked for those of 000000000000 behind \"a\"": func(string, string) *configapi.Tree {
			return &configapi.Tree{Commit: commitOf(1), Files: file("a"), Rest: "a"}
		},
		"commit 000000000000 has more than 100000 files": func(string, string) *configapi.Tree {
			out := &configapi.Tree{Commit: commitOf(1), Rest: fmt.Sprintf("p%09d", pageNumber)}
			for i := range 20_000 {
				out.Files = append(out.Files, &configapi.File{Path: fmt.Sprintf("p%09d/%d", pageNumber, i)})
			}
			pageNumber++
			return out
		},
	} {
		if _, err := treeOf(t.Context(), &session{Client: &api.Client{Configuration: pages{tree: tree}}}, ""); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestFolderOfWorkTree: a folder of a work tree of git is not taken for all of it: everything
// beside it would be proposed to go.
func TestFolderOfWorkTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"OWNERS", "zones/example.net.star"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("# "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=alice", "-c", "user.email=alice@example.net"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %q: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet")
	git("add", "--all")
	git("commit", "--quiet", "--message", "First")
	head := git("rev-parse", "HEAD")
	s := &session{Client: &api.Client{Configuration: pages{tree: func(commit, _ string) *configapi.Tree { return &configapi.Tree{Commit: commit} }}}}
	if m, err := (&workdir{dir: dir}).base(t.Context(), s, ""); err != nil || m.Commit != head {
		t.Errorf("the top: %+v, %v, want commit %s", m, err, head)
	}
	m, err := (&workdir{dir: filepath.Join(dir, "zones")}).base(t.Context(), s, "")
	if err == nil || !strings.Contains(err.Error(), "zones is a folder of the work tree "+git("rev-parse", "--show-toplevel")+": the commit has more files") {
		t.Errorf("a folder: %+v, %v", m, err)
	}
	// Whoever says from which commit the files are knows what it has.
	if m, err := (&workdir{dir: filepath.Join(dir, "zones")}).base(t.Context(), s, head); err != nil || m.Commit != head {
		t.Errorf("a folder, and its commit: %+v, %v", m, err)
	}
}
