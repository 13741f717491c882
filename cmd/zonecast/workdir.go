package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator/front"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/internal/atomicfile"
)

// A working directory has the files of a commit and what its owner changed of them. Which
// commit it was is in .zonecast/checkout; a work tree of git knows it by itself.

const (
	markerDir  = ".zonecast"
	markerName = "checkout"
	// maxWorkFile and maxWorkFiles are the repository's own bounds.
	maxWorkFile  = 16 << 20
	maxWorkFiles = 100_000
	// contentsAtOnce is how many files are asked for in a call.
	contentsAtOnce = 1000
)

// marker is what .zonecast/checkout says: the commit, and git's names of its files' contents, by path.
type marker struct {
	Commit string            `json:"commit"`
	Files  map[string]string `json:"files"`
}

// workdir is a working directory.
type workdir struct {
	dir    string
	marker *marker // nil: there is none
	local  map[string]string
}

func openWorkdir(ctx context.Context, dir string) (*workdir, error) {
	w := &workdir{dir: dir, local: map[string]string{}}
	b, err := os.ReadFile(filepath.Join(dir, markerDir, markerName))
	switch {
	case err == nil:
		if w.marker, err = readMarker(b); err != nil {
			return nil, hinted{fmt.Errorf("%s: %w", filepath.Join(dir, markerDir, markerName), err), "take it away and check out into another directory"}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	var paths []string
	if _, none := os.Lstat(filepath.Join(dir, ".git")); w.marker == nil && none == nil {
		paths, err = w.tracked(ctx)
	} else {
		paths, err = w.all()
	}
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		b, err := w.read(path)
		if errors.Is(err, fs.ErrNotExist) { // git still knows it
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(w.local) == maxWorkFiles {
			return nil, fmt.Errorf("%s has more than %d files", dir, maxWorkFiles)
		}
		w.local[path] = sumOf(b)
	}
	return w, nil
}

// readMarker trusts nothing of what is read.
func readMarker(b []byte) (*marker, error) {
	m := &marker{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if _, err := repo.ParseHash(m.Commit); err != nil {
		return nil, err
	}
	for path, sum := range m.Files {
		if err := checkWorkPath(path); err != nil {
			return nil, err
		}
		if _, err := repo.ParseHash(sum); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return m, nil
}

// checkWorkPath refuses paths to which nobody must be made to write.
func checkWorkPath(path string) error {
	hidden := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }
	parts := strings.Split(path, "/")
	if !fs.ValidPath(path) || path == "." || strings.ContainsFunc(path, hidden) || strings.EqualFold(parts[0], markerDir) ||
		slices.ContainsFunc(parts, func(s string) bool { return strings.EqualFold(s, ".git") }) {
		return fmt.Errorf("path %.200q: is none that a file of the configuration may have", path)
	}
	return nil
}

// all are the files of the directory, by path.
func (w *workdir) all() (paths []string, err error) {
	err = filepath.WalkDir(w.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && name == w.dir {
				return fs.SkipAll
			}
			return err
		}
		if d.IsDir() {
			if name != w.dir && (d.Name() == ".git" || d.Name() == markerDir) {
				return fs.SkipDir
			}
			return nil
		}
		if d.Name() == ".git" { // of a work tree elsewhere
			return nil
		}
		path, err := filepath.Rel(w.dir, name)
		if len(paths) > maxWorkFiles {
			return fs.SkipAll
		}
		paths = append(paths, filepath.ToSlash(path))
		return err
	})
	return paths, err
}

// tracked are the files of a work tree that git does not ignore.
func (w *workdir) tracked(ctx context.Context) (paths []string, err error) {
	cmd := exec.CommandContext(ctx, "git", "-C", w.dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files in %s: %w: %s", w.dir, err, strings.TrimSpace(stderr.String()))
	}
	for path := range strings.SplitSeq(string(out), "\x00") {
		if path != "" && !strings.HasPrefix(path, markerDir+"/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// read gives a file by its path; a folder there is none.
func (w *workdir) read(path string) ([]byte, error) {
	name := filepath.Join(w.dir, filepath.FromSlash(path))
	st, err := os.Lstat(name)
	switch {
	case errors.Is(err, syscall.ENOTDIR) || err == nil && st.IsDir():
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file: the configuration has none such", name)
	case st.Size() > maxWorkFile:
		return nil, fmt.Errorf("%s has %d octets, at most %d", name, st.Size(), maxWorkFile)
	}
	return os.ReadFile(name)
}

// sumOf is git's name of a file's content.
func sumOf(b []byte) string {
	h := sha1.New() // it tells what changed by accident; what others give is checked elsewhere
	fmt.Fprintf(h, "blob %d\x00", len(b))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// base gives the commit from which the directory was made, and that commit's files.
func (w *workdir) base(ctx context.Context, s *session, given string) (*marker, error) {
	if given == "" && w.marker != nil {
		return w.marker, nil
	}
	tries := []string{given}
	if given == "" {
		if top := w.top(ctx); top != "" {
			return nil, hinted{fmt.Errorf("%s is a folder of the work tree %s: the commit has more files", w.dir, top), "name the work tree; --base COMMIT (or --base tip) says from which commit the files were made"}
		}
		tries = w.git(ctx, s)
		if len(tries) == 0 {
			return nil, hinted{fmt.Errorf("%s is neither a checkout nor a work tree of git", w.dir), "`zonecast config checkout DIR` makes one; --base COMMIT (or --base tip) says from which commit the files were made"}
		}
	}
	var failed error
	for _, commit := range tries {
		if commit == "tip" {
			commit = ""
		}
		m, err := treeOf(ctx, s, commit)
		if err == nil {
			return m, nil
		}
		failed = err
	}
	return nil, failed
}

// top is the work tree of git of which the directory is a folder; "" if it is none.
func (w *workdir) top(ctx context.Context) string {
	if _, err := os.Lstat(filepath.Join(w.dir, ".git")); err == nil {
		return ""
	}
	out, _ := exec.CommandContext(ctx, "git", "-C", w.dir, "rev-parse", "--show-toplevel").Output() // nothing outside of one, and without git
	return strings.TrimSuffix(string(out), "\n")
}

// git gives the commits of a work tree of git that the repository may have, the likeliest
// first.
func (w *workdir) git(ctx context.Context, s *session) (commits []string) {
	ask := func(args ...string) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", w.dir}, args...)...).Output()
		if hash := strings.TrimSpace(string(out)); err == nil && len(hash) == 40 {
			commits = append(commits, hash)
		}
	}
	ask("rev-parse", "HEAD")
	if r, err := s.Configuration.Repository(ctx); err == nil {
		ask("merge-base", "HEAD", "refs/remotes/origin/"+r.Branch)
	}
	return commits
}

// treeOf gives the files of a commit; "" is the tip.
func treeOf(ctx context.Context, s *session, commit string) (*marker, error) {
	m := &marker{Commit: commit, Files: map[string]string{}}
	for after := ""; ; {
		t, err := s.Configuration.Tree(ctx, m.Commit, after, 0)
		if err != nil {
			return nil, err
		}
		for _, f := range t.Files {
			m.Files[f.Path] = f.Hash
		}
		switch {
		case len(m.Files) > maxWorkFiles:
			return nil, fmt.Errorf("commit %s has more than %d files", short(t.Commit), maxWorkFiles)
		case m.Commit != "" && t.Commit != m.Commit || t.Rest != "" && t.Rest <= after:
			return nil, fmt.Errorf("the server gave files of commit %s up to %.200q, asked for those of %s behind %.200q", short(t.Commit), t.Rest, short(m.Commit), after)
		}
		m.Commit = t.Commit
		if after = t.Rest; after == "" {
			return m, nil
		}
	}
}

// edits compares the directory with its base.
func (w *workdir) edits(base *marker) ([]*configapi.Edit, error) {
	out := []*configapi.Edit{}
	size := 0
	for _, path := range slices.Sorted(maps.Keys(w.local)) {
		if base.Files[path] == w.local[path] {
			continue
		}
		b, err := w.read(path)
		if err != nil {
			return nil, err
		}
		if size += len(b); size > front.MaxContent || len(out) == front.MaxEdits {
			return nil, hinted{
				fmt.Errorf("%s has more than %d files, or %d octets in them, that are other than in commit %s", w.dir, front.MaxEdits, front.MaxContent, short(base.Commit)),
				"push them as a branch of the repository, and propose its commit with --commit",
			}
		}
		out = append(out, &configapi.Edit{Path: path, Content: b})
	}
	for _, path := range slices.Sorted(maps.Keys(base.Files)) {
		if w.local[path] == "" {
			out = append(out, &configapi.Edit{Path: path, Remove: true})
		}
	}
	return out, nil
}

// keptDir is where files go that --force has written over.
const keptDir = markerDir + "/kept"

// updated is what an update did.
type updated struct {
	written, removed int
	kept             []string // where files are that were in the way
}

// update brings the directory from its base to a commit. What was changed here stays; where
// both changed a file nothing is done at all, or, with force, what is here is kept elsewhere.
func (w *workdir) update(ctx context.Context, s *session, to *marker, force bool) (did updated, err error) {
	base := map[string]string{}
	if w.marker != nil {
		base = w.marker.Files
	}
	var fetch, remove, clash []string
	for path, sum := range to.Files {
		if err := checkWorkPath(path); err != nil {
			return did, fmt.Errorf("commit %s as the server has it: %w", short(to.Commit), err)
		}
		if _, there := w.local[path]; !there { // git may ignore it
			if b, err := w.read(path); err == nil {
				w.local[path] = sumOf(b)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return did, err
			}
		}
		switch local := w.local[path]; {
		case local == sum || base[path] == sum && w.marker != nil: // it is there, or nobody else changed it
		case local == base[path]:
			fetch = append(fetch, path)
		default:
			clash = append(clash, path)
		}
	}
	for path, sum := range base {
		if to.Files[path] != "" {
			continue
		}
		switch w.local[path] {
		case "":
		case sum:
			remove = append(remove, path)
		default:
			clash = append(clash, path)
		}
	}
	slices.Sort(clash)
	if clash, err = w.unlanded(ctx, s, to, clash, func(path string) {
		if to.Files[path] != "" {
			fetch = append(fetch, path)
		} else {
			remove = append(remove, path)
		}
	}); err != nil {
		return did, err
	}
	if len(clash) > 0 && !force {
		return did, hinted{
			fmt.Errorf("%s: changed here and by others: %s; nothing was written", w.dir, plain(strings.Join(clash[:min(len(clash), 10)], ", "))),
			"`zonecast config propose` merges what it can, line by line; or --force takes what has landed, and keeps what is here in " + keptDir,
		}
	}
	if err := os.MkdirAll(filepath.Join(w.dir, markerDir), 0o755); err != nil {
		return did, err
	}
	root, err := os.OpenRoot(w.dir) // what is written stays in it, whatever links say
	if err != nil {
		return did, err
	}
	defer root.Close()
	for _, p := range clash {
		if w.local[p] != "" {
			kept, err := keep(root, p)
			if err != nil {
				return did, err
			}
			did.kept = append(did.kept, kept)
		}
		if to.Files[p] != "" {
			fetch = append(fetch, p)
		}
	}
	// A folder may take the place of a file.
	for _, p := range remove {
		if err := root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return did, err
		}
		did.removed++
		for dir := path.Dir(p); dir != "." && root.Remove(dir) == nil; dir = path.Dir(dir) {
		}
	}
	slices.Sort(fetch)
	if did.written, err = fill(ctx, s, root, to, fetch); err != nil {
		return did, err
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(to); err != nil {
		return did, err
	}
	return did, atomicfile.Write(filepath.Join(w.dir, markerDir, markerName), 0o644, b.Bytes())
}

// fill writes files of a commit, each whole or not at all, and gives how many.
func fill(ctx context.Context, s *session, root *os.Root, from *marker, paths []string) (written int, err error) {
	for len(paths) > 0 {
		n := min(len(paths), contentsAtOnce)
		got, err := s.Configuration.Contents(ctx, from.Commit, paths[:n])
		if err != nil {
			return written, err
		}
		if len(got) == 0 {
			return written, fmt.Errorf("commit %s has no file %s", short(from.Commit), paths[0])
		}
		for i, f := range got {
			if i >= n || f.Path != paths[i] || sumOf(f.Content) != from.Files[f.Path] {
				return written, fmt.Errorf("the server gave something else than file %.200q of commit %s", paths[min(i, n-1)], short(from.Commit))
			}
			if err := put(root, f.Path, f.Content); err != nil {
				return written, err
			}
			written++
		}
		paths = paths[len(got):]
	}
	return written, nil
}

func put(root *os.Root, p string, content []byte) error {
	if err := root.MkdirAll(path.Dir(p), 0o755); err != nil {
		return err
	}
	const next = markerDir + "/next"
	if err := root.RemoveAll(next); err != nil {
		return err
	}
	if err := root.WriteFile(next, content, 0o644); err != nil {
		return err
	}
	return root.Rename(next, p)
}

// keep moves a file below keptDir, beside those that are there already.
func keep(root *os.Root, p string) (string, error) {
	to := path.Join(keptDir, p)
	for i := 1; ; i++ {
		if _, err := root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		to = fmt.Sprintf("%s/%s.%d", keptDir, p, i)
	}
	if err := root.MkdirAll(path.Dir(to), 0o755); err != nil {
		return "", err
	}
	return to, root.Rename(p, to)
}

// maxSought is of how many files, and in how many landings of each, it is looked for what
// was changed here.
const maxSought = 20

// unlanded gives those files that are here otherwise than anybody landed them since the
// base; safe is called with the others, of which nothing is lost.
func (w *workdir) unlanded(ctx context.Context, s *session, to *marker, paths []string, safe func(path string)) (left []string, err error) {
	for i, path := range paths {
		landed := false
		if i < maxSought && w.marker != nil && w.local[path] != "" {
			if landed, err = landedSince(ctx, s, to.Commit, path, w.local[path], w.marker.Files[path]); err != nil {
				return nil, err
			}
		}
		if landed {
			safe(path)
		} else {
			left = append(left, path)
		}
	}
	return left, nil
}

// landedSince tells whether a file was landed as have after it was as before; "" is that it
// was not there.
func landedSince(ctx context.Context, s *session, at, path, have, before string) (bool, error) {
	page, err := s.Configuration.Log(ctx, at, path, maxSought)
	if err != nil {
		return false, err
	}
	for _, l := range page.Landings {
		got, err := s.Configuration.Contents(ctx, l.Commit, []string{path})
		if err != nil {
			return false, err
		}
		sum := ""
		if len(got) == 1 {
			sum = sumOf(got[0].Content)
		}
		if sum == have || sum == before {
			return sum == have, nil
		}
	}
	return false, nil
}
