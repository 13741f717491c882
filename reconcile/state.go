package reconcile

import (
	"iter"

	"github.com/zonecast/zonecast/record"
)

// Change is what one Reconcile did to the dataset, both in canonical order. No
// key is in both.
type Change struct {
	Put    []record.RRset // new, or other data or TTL than before
	Remove []record.Key
}

// Empty tells whether nothing changed.
func (c Change) Empty() bool { return len(c.Put) == 0 && len(c.Remove) == 0 }

// State is all claims and the dataset they make. It is not safe for concurrent use.
type State struct{}

// New starts without claims. It panics when p.Check is not nil.
func New(p Policy) *State { return &State{} }

// Replace says that the claims of the shard of the source are now these; none
// removes the shard. The claims' Data and strings are kept and must not be
// changed. Nothing is decided before Reconcile.
func (s *State) Replace(source record.Source, shard string, claims []record.Claim) {}

// Reconcile decides everything that Replace touched, and tells how the dataset
// changed since the last call. The cost is in what changed; a zone, cut or DNAME
// that comes or goes costs the names below it.
func (s *State) Reconcile() Change { return Change{} }

// Dirty tells whether Reconcile has something to do.
func (s *State) Dirty() bool { return false }

// Len counts the RRsets of the dataset, Claims the claims.
func (s *State) Len() int    { return 0 }
func (s *State) Claims() int { return 0 }

// All gives the dataset in canonical order, as of the last Reconcile.
func (s *State) All() iter.Seq[record.RRset] { return func(func(record.RRset) bool) {} }

// Get gives one RRset of the dataset, as of the last Reconcile.
func (s *State) Get(k record.Key) (record.RRset, bool) { return record.RRset{}, false }

// Zones gives the apexes in canonical order, as of the last Reconcile.
func (s *State) Zones() []record.Name { return nil }

// Conflicts gives every conflict, in order of Key, as of the last Reconcile.
func (s *State) Conflicts() iter.Seq[Conflict] { return func(func(Conflict) bool) {} }

// ConflictCounts counts the conflicts by kind; kinds without any are there with 0.
func (s *State) ConflictCounts() map[Kind]int { return nil }

// Explain tells why the dataset has at a name what it has; t zero asks for every
// type. It speaks as of the last Reconcile.
func (s *State) Explain(name record.Name, t record.Type) Explanation { return Explanation{} }

// String is the explanation for people, several lines.
func (e Explanation) String() string { return "" }
