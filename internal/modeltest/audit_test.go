package modeltest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/record"
)

// made is a version that changed content, as the model knows it.
type made struct {
	logged
	before content
	ways   [2][]way // that led to the version before, and to this one
}

// reasons is what the audit says of versions: why each is as it is.
type reasons struct {
	entries []*controlapi.AuditEntry
	pins    int    // entries of pins up to here were told of a version
	pinned  uint64 // of the version before
}

// explain gives the entries that say why a version is as it is, and the sources of its
// change of which none does: robots and files, whose changes the audit does not have.
// An error says what the audit cannot explain.
func (r *reasons) explain(v *controlapi.VersionInfo) (why []*controlapi.AuditEntry, silent []record.Source, err error) {
	if uint64(v.Pinned) != r.pinned {
		action, subject := "release", "internal"
		if v.Pinned > 0 {
			action, subject = "rollback", fmt.Sprint(v.Pinned)
		}
		i := slices.IndexFunc(r.entries[r.pins:], func(e *controlapi.AuditEntry) bool {
			return e.Action == action && e.Subject == subject && e.TimeMs <= v.TimeMs
		})
		if i < 0 {
			return nil, nil, fmt.Errorf("version %d is pinned at %d, that before at %d, and the audit has no %s", v.Version, v.Pinned, r.pinned, action)
		}
		r.pins += i + 1
		r.pinned = uint64(v.Pinned)
		why = append(why, r.entries[r.pins-1])
	}
	for _, text := range sourcesOf(v) {
		s := record.Source(text)
		id, isOverride := strings.CutPrefix(text, record.KindOverride+"/")
		about := func(e *controlapi.AuditEntry) bool {
			switch {
			case e.TimeMs > v.TimeMs:
				return false
			case isOverride:
				return strings.HasPrefix(e.Action, "override ") && e.Subject == id || e.Action == "override set" && strings.Contains(e.Text, "instead of override "+id+" ")
			}
			return e.Action == "hold release" && strings.HasPrefix(e.Text, "release of "+text+": ") ||
				e.Action == "thaw" && (strings.HasPrefix(e.Text, text+",") || strings.HasPrefix(e.Text, s.Kind()+"/*,") || strings.HasPrefix(e.Text, "everything"))
		}
		i := len(r.entries) - 1
		for i >= 0 && !about(r.entries[i]) {
			i--
		}
		switch {
		case i >= 0:
			why = append(why, r.entries[i])
		case isOverride:
			return nil, nil, fmt.Errorf("version %d has a change of %s, of which the audit says nothing", v.Version, s)
		default:
			silent = append(silent, s)
		}
	}
	return why, silent, nil
}

// sourcesOf are the sources whose change a version has.
func sourcesOf(v *controlapi.VersionInfo) (all []string) {
	for _, c := range v.Causes {
		all = append(all, c.Source)
	}
	return all
}

// audited holds that the audit has each thing that people did, once, and what followed from
// it, and that it explains every version, with who did it and why.
func (m *machine) audited(t *rapid.T) {
	var r reasons
	for after := ""; ; {
		page, err := m.person.Audit(context.Background(), 0, after, 7, false)
		if err != nil {
			t.Fatalf("audit: %v", err)
		}
		r.entries = append(r.entries, page.Entries...)
		if after = page.NextAfter; after == "" {
			break
		}
	}
	left := slices.Clone(m.acted)
	r.entries = slices.DeleteFunc(r.entries, func(e *controlapi.AuditEntry) bool { return e.Author == "presenter" && e.Action == "held" })
	for _, e := range r.entries {
		if e.Author == "presenter" && e.Action == "override ended" {
			i := slices.IndexFunc(m.acted, func(d deed) bool { return d.action == "override set" && d.subject == e.Subject })
			if i < 0 || m.acted[i].reason != e.Reason {
				t.Fatalf("the audit has %+v, of an override that nobody set", e)
			}
			continue
		}
		i := slices.Index(left, deed{e.Action, e.Subject, e.Reason})
		if i < 0 || e.Author != "alice" || e.Text == "" {
			t.Fatalf("the audit has %+v, which nobody did; left are %+v", e, left)
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Fatalf("the audit lacks %+v", left)
	}
	for _, id := range m.ended {
		if !slices.ContainsFunc(r.entries, func(e *controlapi.AuditEntry) bool { return e.Action == "override ended" && e.Subject == id }) {
			t.Fatalf("override %s ended by itself, and the audit does not have it", id)
		}
	}
	h, err := m.person.History(context.Background(), 10000)
	if err != nil || int(h.Kept) != len(m.made) {
		t.Fatalf("%d versions in the history (%v), %d were made", h.Kept, err, len(m.made))
	}
	slices.Reverse(h.Versions)
	for i, v := range h.Versions {
		if uint64(v.Version) != m.made[i].version || v.TimeMs != m.made[i].time {
			t.Fatalf("the history has %+v, made was version %d at %d", v, m.made[i].version, m.made[i].time)
		}
		why, silent, err := r.explain(v)
		if err != nil {
			t.Fatalf("%v; the audit is %v", err, r.entries)
		}
		if len(why) == 0 && len(silent) == 0 && m.people(m.made[i]) {
			t.Fatalf("nobody made version %+v:\n%s", v, difference(m.made[i].before, m.made[i].content))
		}
		for _, e := range why {
			if e.Author == "" || e.Reason == "" {
				t.Fatalf("version %d: %+v does not say who and why", v.Version, e)
			}
			m.as(t, m.made[i], e)
		}
	}
	for _, s := range m.letThrough {
		if !slices.ContainsFunc(r.entries, func(e *controlapi.AuditEntry) bool {
			return e.Action == "hold release" && strings.HasPrefix(e.Text, "release of "+string(s)+": ")
		}) {
			t.Fatalf("a change of %s was let through, and the audit does not have it", s)
		}
	}
}

// people tells whether a version changes what was an override's before it or is now.
func (m *machine) people(v made) bool {
	for k, r := range v.content.sets {
		if r.TTL == 60 && !r.Equal(v.before.sets[k]) { // the test's overrides have it, and nothing else
			return true
		}
	}
	return false
}

// as holds that a version has what an entry says of an override that is set.
func (m *machine) as(t *rapid.T, v made, e *controlapi.AuditEntry) {
	if e.Action != "override set" {
		return
	}
	var owner, typ, rdata string
	var ttl uint32
	if _, err := fmt.Sscanf(e.Text, "%s %d %s %s until", &owner, &ttl, &typ, &rdata); err != nil {
		t.Fatalf("%q: %v", e.Text, err)
	}
	for k, r := range v.content.sets {
		if k.Owner.String() == owner && k.Type.String() == typ && r.TTL == ttl {
			// Of one millisecond the version may be of before: then it has what was replaced.
			if is := fmt.Sprintf("192.0.2.%d", r.Data[0][3]); typ == "A" && is != rdata && !strings.HasSuffix(e.Text, "("+is+")") {
				t.Fatalf("version %d has %s %s, the audit says %q of %v", v.version, k, is, e.Text, m.acted)
			}
			return
		}
	}
}

// history holds that what the history says of the versions since the last look is so.
func (m *machine) history(t *rapid.T, since int) {
	h, err := m.person.History(context.Background(), 10000)
	if err != nil || len(h.Versions) != len(m.made) {
		t.Fatalf("%d versions in the history (%v), %d were made", len(h.Versions), err, len(m.made))
	}
	for i, v := range m.made[since:] {
		is := h.Versions[len(h.Versions)-1-since-i]
		var created, replaced, removed int64
		for k, r := range v.content.sets {
			if was, ok := v.before.sets[k]; !ok {
				created++
			} else if !was.Equal(r) {
				replaced++
			}
		}
		for k := range v.before.sets {
			if _, ok := v.content.sets[k]; !ok {
				removed++
			}
		}
		if is.Version != int64(v.version) || is.Created != created || is.Replaced != replaced || is.Removed != removed {
			t.Fatalf("the history has %+v; version %d creates %d, replaces %d and removes %d", is, v.version, created, replaced, removed)
		}
		may, must := m.changed(v)
		if may == nil {
			continue
		}
		for _, s := range sourcesOf(is) {
			if id, ok := strings.CutPrefix(s, record.KindOverride+"/"); ok {
				if !slices.ContainsFunc(m.acted, func(d deed) bool { return d.subject == id }) {
					t.Fatalf("the history has %+v, and nobody set override %s", is, id)
				}
			} else if !may[record.Source(s)] && !m.unsaid[record.Source(s)] {
				t.Fatalf("the history has %+v, and %s has no part in it:\n%s\n%s", is, s, difference(v.before, v.content), m)
			}
		}
		if i == 0 {
			clear(m.unsaid)
		}
		for s := range must {
			if !slices.Contains(sourcesOf(is), string(s)) {
				t.Fatalf("the history has %+v, and not %s:\n%s\n%s", is, s, difference(v.before, v.content), m)
			}
		}
	}
}

// changed gives the sources that may have a part in a version, and those that must; nil
// when a pin came or went. Overrides are called by their ids.
func (m *machine) changed(v made) (may, must map[record.Source]bool) {
	may, must = map[record.Source]bool{}, map[record.Source]bool{}
	if len(m.pins) > 1 {
		return nil, nil
	}
	names := m.names()
	for i, name := range names {
		s := m.sources[name]
		always := true
		ids := map[string]bool{}
		for _, before := range v.ways[0] {
			for _, after := range v.ways[1] {
				if m.pins[before[len(names)]] != 0 || m.pins[after[len(names)]] != 0 {
					return nil, nil
				}
				onward := true
				for j := range before {
					onward = onward && before[j] <= after[j]
				}
				if !onward {
					continue
				}
				if before[i] == after[i] {
					always = false
				} else {
					may[name] = true
					ids[s.states[after[i]].id] = true
				}
			}
		}
		switch {
		case !always:
		case !passes(name):
			must[name] = true
		case len(ids) == 1 && !ids[""]: // which of several it was is not known, and who leads later not which went
			for id := range ids {
				must[record.Source(record.KindOverride+"/"+id)] = true
			}
		}
	}
	return may, must
}
