package repo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Log gives at most n commits, from one on and back along first parents, and from which
// to go on: zero at the end. With a path, those that change what is there.
func (r *Repo) Log(ctx context.Context, from Hash, path string, n int) ([]*Commit, Hash, error) {
	if n < 1 || n > 10_000 {
		return nil, Hash{}, fmt.Errorf("log: asked for %d commits, expected 1 to 10000", n)
	}
	args := []string{"rev-list", "--first-parent", "-n", strconv.Itoa(n + 1), from.String(), "--"}
	if path != "" {
		if err := checkPath(path); err != nil {
			return nil, Hash{}, err
		}
		args = append(args, path)
	}
	out, err := r.output(ctx, (n+1)*41, nil, args...)
	if err != nil {
		return nil, Hash{}, err
	}
	var commits []*Commit
	for _, s := range strings.Fields(string(out)) {
		h, err := ParseHash(s)
		if err != nil {
			return nil, Hash{}, err
		}
		if len(commits) == n {
			return commits, h, nil
		}
		c, err := r.Commit(ctx, h)
		if err != nil {
			return nil, Hash{}, err
		}
		commits = append(commits, c)
	}
	return commits, Hash{}, nil
}

// Diff gives what changes between two commits, as people read it, and whether there is
// more than max octets of it.
func (r *Repo) Diff(ctx context.Context, from, to Hash, max int) (string, bool, error) {
	out, err := r.output(ctx, max, nil, "diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", from.String(), to.String())
	if errors.Is(err, errTooLong) || len(out) == max && err != nil {
		return strings.ToValidUTF8(string(out), "?"), true, nil
	}
	return strings.ToValidUTF8(string(out), "?"), false, err
}
