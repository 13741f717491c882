package trust

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// look reads all files, and tells whether they have a key that they had not. What cannot be
// read leaves what was known.
func (r *Ring) look() (another bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, err := loadKeys(r.cfg.Keys)
	r.problem("keys", err)
	if err == nil {
		another = slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return !has(r.keys, k) })
		r.keys = keys
	}
	r.lookLocal()
	r.lookMemory()
	r.make()
	return another
}

// lookLocal reads the administrator's file. The caller holds mu.
func (r *Ring) lookLocal() {
	if r.cfg.Revoked == "" {
		return
	}
	b, err := journal.ReadFile(journal.System(), r.cfg.Revoked, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = nil, nil
	}
	if err != nil {
		r.problem("revoked", fmt.Errorf("revoked keys: %w", err))
		return
	}
	local, err := parseRevoked(r.cfg.Revoked, string(b))
	r.problem("revoked", err)
	if err == nil {
		r.local = local
	}
}

// parseRevoked reads a file in which keys are revoked, one a line: a Statement, or the
// key's id, "void" when what it signed before is void as well, and a reason. Empty lines
// and those that begin with # say nothing.
func parseRevoked(file, text string) (map[string]revoked, error) {
	all := map[string]revoked{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, statementMagic) {
			s, err := ParseStatement(line)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			all[s.ID()] = revoked{s.Void, s.String()}
			continue
		}
		id, why, _ := strings.Cut(line, " ")
		if b, err := hex.DecodeString(id); err != nil || len(b) != 8 || hex.EncodeToString(b) != id {
			return nil, fmt.Errorf("%s:%d: found %.60q, expected the id of a key (16 hexadecimal digits, see zonecast key show) or a revocation", file, n, id)
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(why), " ")
		x := revoked{void: word == "void", why: strings.TrimSpace(why)}
		if x.void {
			x.why = strings.TrimSpace(rest)
		}
		if x.why == "" {
			x.why = "named in " + file
		}
		x.why = clip(x.why, MaxReason)
		all[id] = x
	}
	return all, nil
}

// lookMemory reads what was seen earlier. A file from which a person took a statement away
// is believed; one that is gone is written again. The caller holds mu.
func (r *Ring) lookMemory() {
	if r.cfg.Memory == "" {
		return
	}
	if r.unsaved {
		r.save()
		return
	}
	b, err := journal.ReadFile(r.cfg.FS, r.cfg.Memory, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		r.problem("memory", nil)
		if len(r.seen) > 0 && !r.cfg.Reader {
			r.unsaved = true
			r.save()
		}
		return
	}
	seen := map[string]Statement{}
	if err == nil {
		seen, err = parseMemory(r.cfg.Memory, string(b))
	}
	r.problem("memory", err)
	if err != nil {
		maps.Copy(seen, r.seen) // what can be read is not less true
	}
	r.seen = seen
}

// parseMemory reads statements, one a line. With an error it gives those that hold.
func parseMemory(file, text string) (map[string]Statement, error) {
	seen := map[string]Statement{}
	var errs []error
	n, bad := 0, 0
	for line := range strings.Lines(text) {
		n++
		s, err := ParseStatement(strings.TrimSuffix(line, "\n"))
		if err != nil {
			if bad++; bad <= maxBad {
				errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err))
			}
			continue
		}
		seen[s.ID()] = s
	}
	if bad > maxBad {
		errs = append(errs, fmt.Errorf("%s: %d more lines do not hold", file, bad-maxBad))
	}
	return seen, errors.Join(errs...)
}

// maxBad is how many lines of a damaged file are named.
const maxBad = 3

// clip shortens text to most octets.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const more = "…"
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}

// save writes the memory when something in it is new. The caller holds mu.
func (r *Ring) save() {
	if !r.unsaved {
		return
	}
	err := writeMemory(r.cfg.FS, r.cfg.Memory, r.seen)
	r.problem("memory", err)
	r.unsaved = err != nil
}

func writeMemory(fsys journal.FS, file string, seen map[string]Statement) error {
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		text.WriteString(seen[id].line + "\n")
	}
	if err := journal.WriteFile(fsys, file, []byte(text.String())); err != nil {
		return fmt.Errorf("remember revocations: %w", err)
	}
	return nil
}

// Remembered gives what a memory has, by key id. A file that is not there has nothing.
func Remembered(file string) (map[string]Statement, error) {
	b, err := journal.ReadFile(journal.System(), file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return parseMemory(file, string(b))
}

// Forget takes the statement on a key out of a memory, and tells whether it was there.
// Where the store still has the statement it is learned again.
func Forget(file, id string) (bool, error) {
	seen, err := Remembered(file)
	if err != nil {
		return false, err
	}
	if _, there := seen[id]; !there {
		return false, nil
	}
	delete(seen, id)
	return true, writeMemory(journal.System(), file, seen)
}

// problem notes what is wrong with one of the sources. The caller holds mu.
func (r *Ring) problem(with string, err error) {
	text := ""
	if err != nil {
		text = clip(err.Error(), maxProblem)
	}
	if text == r.problems[with] {
		return
	}
	if text == "" {
		delete(r.problems, with)
		return
	}
	r.problems[with] = text
	r.cfg.Log.Warn("keys not read, what was known stays", "source", with, "error", text)
}

// make makes the set of what is known, and tells when it is another one. The caller holds
// mu.
func (r *Ring) make() {
	set := &journal.KeySet{}
	for _, key := range r.keys {
		id := snapshot.KeyID(key)
		local, named := r.local[id]
		s, signed := r.seen[id]
		switch {
		case !named && !signed:
			set.Believed = append(set.Believed, key)
		case named:
			set.Revoked = append(set.Revoked, journal.Revoked{Key: key, Void: local.void || signed && s.Void, Why: local.why})
		default:
			set.Revoked = append(set.Revoked, journal.Revoked{Key: key, Void: s.Void, Why: s.String()})
		}
	}
	old := r.set.Load()
	if old != nil && set.Equal(old) {
		return
	}
	if old != nil {
		r.cfg.Log.Warn("other keys are believed than before", "believed", IDs(set), "revoked", len(set.Revoked))
	}
	r.set.Store(set)
	for ch := range r.told {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// IDs are those of the keys that a set believes.
func IDs(set *journal.KeySet) []string {
	ids := []string{}
	for _, k := range set.Believed {
		ids = append(ids, snapshot.KeyID(k))
	}
	return ids
}
