package service

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// State is the status of a service.
//
//	STARTING ─► ALIVE ◄─► WARNING ─► STOPPING ─► STOPPED
//
// STARTING may go to STOPPING at once.
type State string

// The states of a service.
const (
	Starting State = "STARTING"
	Alive    State = "ALIVE"
	// Warned is Alive while a warning is in force.
	Warned   State = "WARNING"
	Stopping State = "STOPPING"
	Stopped  State = "STOPPED"
)

// states are all of them, for the metric.
var states = [...]State{Starting, Alive, Warned, Stopping, Stopped}

// maxWarnings bounds the warnings in force: more keys than an operator reads mean
// that a key is made from data, and must not fill the memory.
const maxWarnings = 1000

// Warning is something that people should look at, and that does not stop the
// service.
type Warning struct {
	Key   string    `json:"key"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"` // when a warning with this key came up
}

// Status is a service at one moment.
type Status struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Status  State     `json:"status"`
	Since   time.Time `json:"since"`   // of Status
	Started time.Time `json:"started"` // when the service was made
	// Details says in a line why Status is what it is; empty when all is well.
	Details  string       `json:"details,omitempty"`
	Warnings []Warning    `json:"warnings"` // by key
	Tasks    []TaskStatus `json:"tasks"`    // in the order of Add
}

// TaskStatus is a task at one moment.
type TaskStatus struct {
	Name     string    `json:"name"`
	State    TaskState `json:"state"`
	Since    time.Time `json:"since"` // of State; zero before the start
	Restarts int       `json:"restarts,omitempty"`
	// Detail is what the task has to say about itself.
	Detail string `json:"detail,omitempty"`
	// Error is the newest failure, which the task may have got over since.
	Error string `json:"error,omitempty"`
}

// State is the service's state.
func (s *Service) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.visible()
}

// visible is the state with warnings in mind; s.mu is held.
func (s *Service) visible() State {
	if s.state == Alive && len(s.warnings) > 0 {
		return Warned
	}
	return s.state
}

func (s *Service) setState(st State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Info("service status", "from", s.state, "to", st)
	s.state, s.since = st, time.Now()
}

// Warn puts a warning in force, or changes its text. It is logged when it is new or
// its text is.
func (s *Service) Warn(key, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.warnings[key]
	if ok && w.Text == text {
		return
	}
	s.log.Warn("warning", "key", key, "text", text)
	if !ok {
		if len(s.warnings) >= maxWarnings {
			s.dropped++
			return
		}
		w = Warning{Key: key, Since: time.Now()}
	}
	w.Text = text
	before := s.visible()
	s.warnings[key] = w
	s.changed(before)
}

// ClearWarning ends a warning; when there is none it does nothing.
func (s *Service) ClearWarning(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.warnings[key]
	if !ok {
		return
	}
	s.log.Info("warning over", "key", key, "text", w.Text, "took", time.Since(w.Since))
	before := s.visible()
	delete(s.warnings, key)
	if len(s.warnings) == 0 {
		s.dropped = 0
	}
	s.changed(before)
}

// changed stamps a change between Alive and Warned; s.mu is held.
func (s *Service) changed(before State) {
	if s.visible() != before {
		s.since = time.Now()
	}
}

// Status is the service now.
func (s *Service) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Name: s.cfg.Name, Version: s.cfg.Version, Status: s.visible(), Since: s.since, Started: s.born,
		Warnings: slices.SortedFunc(maps.Values(s.warnings), func(a, b Warning) int { return strings.Compare(a.Key, b.Key) }),
		Tasks:    make([]TaskStatus, len(s.tasks)),
	}
	if st.Warnings == nil {
		st.Warnings = []Warning{}
	}
	var details []string
	for i, r := range s.tasks {
		st.Tasks[i] = r.status()
		if ts := st.Tasks[i]; ts.State == TaskFailed || ts.State == TaskStuck {
			details = append(details, "task "+ts.Name+" is "+string(ts.State))
		}
	}
	for _, w := range st.Warnings {
		details = append(details, w.Key+": "+w.Text)
	}
	st.Details, _, _ = strings.Cut(strings.Join(details, "; "), "\n")
	return st
}

func (r *running) status() TaskStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := TaskStatus{Name: r.Name, State: r.state, Since: r.since, Restarts: r.restarts}
	if r.Detail != nil {
		st.Detail = r.Detail()
	}
	if r.last != nil {
		st.Error = r.last.Error()
	}
	return st
}
