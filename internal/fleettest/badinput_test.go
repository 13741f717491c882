package fleettest

import (
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// TestWrongClocks: a publisher whose clock is days ahead or behind is said, by manifests that
// come from the future or are past their time; versions count, and nobody waits.
func TestWrongClocks(t *testing.T) {
	const day = 24 * time.Hour
	x := newTarget(t)
	for _, c := range []struct {
		signed time.Duration // from now
		alarm  string
	}{{3 * day, "ahead of this host's clock"}, {-3 * day, "manifest was valid until"}, {0, ""}} {
		at := time.Now().Add(c.signed)
		x.some(1)
		x.announce(x.manifest(func(m *snapshot.Manifest) { m.Signed, m.ValidUntil = at.UnixMilli(), at.Add(day).UnixMilli() }, x.key))
		x.reaches()
		eventually(t, "alarm: "+c.alarm, func() bool {
			report, _ := x.report()
			said := strings.Join(report.Alarms, "\n")
			return c.alarm == "" && said == "" || c.alarm != "" && strings.Contains(said, c.alarm)
		})
		if valid, _ := x.metric(x.name, "zonecast_agent_manifest_valid_seconds"); (valid < 0) != (c.signed == -3*day) {
			t.Errorf("signed %s from now: valid for %v s", c.signed, valid)
		}
	}
	// The same version signed for longer ends the alarm: nothing has to change for that.
	x.some(1)
	x.announce(x.manifest(func(m *snapshot.Manifest) { m.Signed, m.ValidUntil = 1, 2 }, x.key))
	eventually(t, "past its time", func() bool { return len(x.a.Alarms()) == 1 })
	x.announce(x.manifest(func(m *snapshot.Manifest) { m.Signed, m.ValidUntil = 1, time.Now().Add(day).UnixMilli() }, x.key))
	eventually(t, "signed anew", func() bool { return len(x.a.Alarms()) == 0 })
	x.restart()
	x.reaches()
	if a := x.a.Alarms(); len(a) > 0 {
		t.Errorf("after a restart: %q", a)
	}
}

// readOnly is a file system that can be remounted.
type readOnly struct {
	journal.FS
	on atomic.Bool
}

func (r *readOnly) err(op, name string) error {
	if !r.on.Load() {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: syscall.EROFS}
}

func (r *readOnly) OpenFile(name string, flag int, perm fs.FileMode) (journal.File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE) != 0 {
		if err := r.err("open", name); err != nil {
			return nil, err
		}
	}
	f, err := r.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f, r, name}, nil
}

func (r *readOnly) Rename(from, to string) error {
	if err := r.err("rename", from); err != nil {
		return err
	}
	return r.FS.Rename(from, to)
}

func (r *readOnly) Remove(name string) error {
	if err := r.err("remove", name); err != nil {
		return err
	}
	return r.FS.Remove(name)
}

type readOnlyFile struct {
	journal.File
	r    *readOnly
	name string
}

func (f readOnlyFile) Write(b []byte) (int, error) {
	if err := f.r.err("write", f.name); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f readOnlyFile) Truncate(size int64) error {
	if err := f.r.err("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// TestReadOnlyDisk: a disk that turns read-only leaves the journal as it is, which is said;
// with the disk comes all that was missed. What is refused meanwhile is counted all the same.
func TestReadOnlyDisk(t *testing.T) {
	x := newTarget(t)
	disk := &readOnly{FS: journal.System()}
	x.fs = disk
	x.restart()
	x.reaches()
	had := x.d.Version()
	disk.on.Store(true)
	x.next(2)
	eventually(t, "trouble is said", func() bool {
		report, _ := x.report()
		return strings.Contains(report.Refused, syscall.EROFS.Error())
	})
	if now := x.look(); now.Version() != had {
		t.Errorf("journal is at version %d, expected %d", now.Version(), had)
	}
	disk.on.Store(false)
	x.reaches()
}

// TestRemovedJournal: a journal that somebody removes under a running agent, or while none
// runs, is there again, whole.
func TestRemovedJournal(t *testing.T) {
	x := newTarget(t)
	if err := os.RemoveAll(x.cfg.Journal); err != nil {
		t.Fatal(err)
	}
	x.floor = 0 // of what lies on the disk
	x.next(1)
	eventually(t, "followed", func() bool { return x.a.Status().Version == x.d.Version() })
	x.restart()
	x.reaches()
	x.stop()
	if err := os.RemoveAll(x.cfg.Journal); err != nil {
		t.Fatal(err)
	}
	x.floor = 0
	x.restart()
	x.reaches()
}

// TestTwoPublishersAtOnce: of two that believe they lead the store lets one sign; the other
// one takes over when it is gone, and versions go forward all the time.
func TestTwoPublishersAtOnce(t *testing.T) {
	f := newFleet(t)
	p1, _ := f.publisherAt("p1", func(c *publisher.Config) { c.SnapshotPause = 0 })
	f.some(2)
	eventually(t, "the first one leads", func() bool { return p1.Status().Leading })
	p2, _ := f.publisherAt("p2")
	h := f.host("host0")
	h.reaches()
	f.some(5)
	h.reaches()
	if p1.Status().Leading && p2.Status().Leading {
		t.Error("both lead")
	}
	// The store elects the other one, and the first has not heard of it.
	if _, err := f.st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ElectPublisher + "/" + dataset, Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	f.some(5)
	h.reaches()
	eventually(t, "one leads", func() bool { return p1.Status().Leading != p2.Status().Leading })
	f.some(5)
	h.reaches()
}
