package repo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// binaryPrefix is how much of a file is searched for a zero octet, in octets: as git
// does, which calls such a file binary.
const binaryPrefix = 8000

// lines merges one file by lines. A clash is why it cannot be, and lines where, in
// onto's file.
func (m *merge) lines(base, onto, theirs *entry) (content []byte, lines []Lines, clash Clash, err error) {
	r := m.repo
	dir, err := os.MkdirTemp(r.temp(), "merge-")
	if err != nil {
		return nil, nil, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	names := [3]string{filepath.Join(dir, "base"), filepath.Join(dir, "onto"), filepath.Join(dir, "theirs")}
	for i, e := range [3]*entry{base, onto, theirs} {
		b, err := m.out.blob(e)
		if err != nil {
			return nil, nil, "", err
		}
		if bytes.IndexByte(b[:min(len(b), binaryPrefix)], 0) >= 0 {
			return nil, nil, BothBinary, nil
		}
		if err := os.WriteFile(names[i], b, 0o600); err != nil {
			return nil, nil, "", err
		}
	}
	// Conflicts come with both sides and the base around them.
	max := int(4*r.cfg.Limits.FileSize) + 1<<20
	content, err = r.output(m.ctx, max, nil, "merge-file", "-p", "-q", names[1], names[0], names[2])
	if err == nil {
		return content, nil, "", nil
	}
	if n := exitStatus(err); n < 1 || n > 127 { // the number of conflicts, at most 127
		return nil, nil, "", err
	}
	var hunks [2][]hunk
	for i, name := range names[1:] {
		out, err := r.output(m.ctx, max, nil, "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--text", "--no-color", "-U0", names[0], name)
		if err != nil && exitStatus(err) != 1 {
			return nil, nil, "", err
		}
		if hunks[i], err = parseHunks(out); err != nil {
			return nil, nil, "", err
		}
	}
	return nil, overlaps(hunks[0], hunks[1]), BothChange, nil
}

// hunk is one place in which two files differ: at lines of the first, counted from 0,
// and of the second.
type hunk struct{ from, fromLen, to, toLen int }

// parseHunks finds the lines of a diff that begin
//
//	"@@ -" first ["," number] " +" first ["," number] " @@"
//
// A number of 0 means behind the line that is named.
func parseHunks(diff []byte) ([]hunk, error) {
	var hunks []hunk
	for line := range bytes.Lines(diff) {
		ranges, ok := bytes.CutPrefix(line, []byte("@@ -"))
		if !ok {
			continue
		}
		var h hunk
		from, rest, ok := strings.Cut(string(ranges), " +")
		to, _, ok2 := strings.Cut(rest, " @@")
		var err error
		if !ok || !ok2 {
			err = errors.New("expected two ranges")
		}
		if err == nil {
			h.from, h.fromLen, err = parseRange(from)
		}
		if err == nil {
			h.to, h.toLen, err = parseRange(to)
		}
		if err != nil {
			return nil, fmt.Errorf("git diff says %.100q: %w", line, err)
		}
		hunks = append(hunks, h)
	}
	return hunks, nil
}

func parseRange(s string) (first, n int, err error) {
	a, b, ok := strings.Cut(s, ",")
	n = 1
	if first, err = strconv.Atoi(a); err == nil && ok {
		n, err = strconv.Atoi(b)
	}
	if err != nil || first < 0 || n < 0 || n > 0 && first == 0 {
		return 0, 0, fmt.Errorf("%.40q: expected line,number", s)
	}
	if n > 0 {
		first--
	}
	return first, n, nil
}

// overlaps gives where hunks of both touch each other, as lines of the second file of a.
// Both lists go from one file and are sorted. Like git, it counts changes of lines that
// lie side by side as touching.
func overlaps(a, b []hunk) []Lines {
	var found []Lines
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].from+a[i].fromLen < b[j].from:
			i++
		case b[j].from+b[j].fromLen < a[i].from:
			j++
		default:
			l := Lines{From: a[i].to + 1, To: a[i].to + a[i].toLen}
			if len(found) == 0 || found[len(found)-1] != l {
				found = append(found, l)
			}
			if a[i].from+a[i].fromLen <= b[j].from+b[j].fromLen {
				i++
			} else {
				j++
			}
		}
	}
	return found
}
