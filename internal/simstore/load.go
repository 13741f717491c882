package simstore

import "time"

// Load is what was asked of a cluster.
type Load struct {
	Gets, Lists, Commits, Sessions int
	Connects                       int // clients that came back after they were cut off
	Batches                        int // of watches
	Resets                         int // batches that were the whole state
	Octets                         int // of values read, listed and watched
}

func (a Load) most(b Load) Load {
	return Load{
		max(a.Gets, b.Gets), max(a.Lists, b.Lists), max(a.Commits, b.Commits), max(a.Sessions, b.Sessions),
		max(a.Connects, b.Connects), max(a.Batches, b.Batches), max(a.Resets, b.Resets), max(a.Octets, b.Octets),
	}
}

func (a Load) plus(b Load) Load {
	return Load{
		a.Gets + b.Gets, a.Lists + b.Lists, a.Commits + b.Commits, a.Sessions + b.Sessions,
		a.Connects + b.Connects, a.Batches + b.Batches, a.Resets + b.Resets, a.Octets + b.Octets,
	}
}

// meter counts by the second.
type meter struct {
	second     int64
	now        Load
	all, worst Load
}

// count adds to a field of now. The cluster's mu is held.
func (m *meter) count(field *int, n int) {
	if s := time.Now().Unix(); s != m.second {
		m.turn()
		m.second = s
	}
	*field += n
}

func (m *meter) turn() {
	m.all, m.worst = m.all.plus(m.now), m.worst.most(m.now)
	m.now = Load{}
}

// Load is what was asked since the last call, and the most of each kind in one second.
func (t *Cluster) Load() (all, worst Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load.turn()
	all, worst = t.load.all, t.load.worst
	t.load = meter{}
	return all, worst
}
