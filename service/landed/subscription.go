package landed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses before a proxy that did not answer is asked again; they double, and each is up to
// a quarter shorter by chance so that many programs do not come back in step.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Watch calls handle with each newer version than after of a configuration, as they come or
// the newest of several, until ctx ends or handle fails; its error is what Watch gives.
// trouble is told what is wrong, as often as it is tried again: an *AbsentError, a proxy
// that does not answer; nil: all is well, and as of when. It may be nil.
func (c *Client) Watch(ctx context.Context, path string, after uint64, handle func(Value) error, trouble func(err error, confirmed time.Time)) error {
	if trouble == nil {
		trouble = func(error, time.Time) {}
	}
	pause, wait := time.Duration(0), time.Duration(0)
	asked := after // a removal counts, too
	for ctx.Err() == nil {
		began := time.Now()
		v, err := c.Next(ctx, path, asked, wait)
		if ctx.Err() != nil {
			break
		}
		// again says that there is no need to pause: something came, or was waited for.
		again := wait == 0 || time.Since(began) >= wait/2
		var absent *AbsentError
		switch {
		case err == nil && v.Version > after:
			after, asked, again = v.Version, max(asked, v.Version), true
			trouble(v.problem(), v.Confirmed)
			if err := handle(v); err != nil {
				return err
			}
		case err == nil:
			trouble(fmt.Errorf("the proxy answers version %d of %s, %d or newer was asked for", v.Version, path, asked+1), time.Time{})
			again = false
		case errors.Is(err, ErrUnchanged) && v.Version < after:
			trouble(fmt.Errorf("the proxy has version %d of %s, older than %d that is known here", v.Version, path, after), time.Time{})
		case errors.Is(err, ErrUnchanged):
			trouble(v.problem(), v.Confirmed)
		case errors.As(err, &absent):
			trouble(err, time.Time{})
			if absent.Version > asked {
				asked, again = absent.Version, true
			}
		default:
			trouble(err, time.Time{})
			again = false
		}
		if again {
			pause, wait = 0, pollTime
			continue
		}
		pause = min(max(2*pause, firstPause), lastPause)
		wait = 0 // what is known is said at once when the proxy is back
		select {
		case <-ctx.Done():
		case <-time.After(pause - rand.N(pause/4+1)):
		}
	}
	return nil
}

// problem is Problem as an error.
func (v Value) problem() error {
	if v.Problem == "" {
		return nil
	}
	return fmt.Errorf("configuration %s: %s", v.Path, v.Problem)
}

// Options is what a Subscription is made of.
type Options[T any] struct {
	Client *Client
	Path   string
	// Decode reads a value. Nil means encoding/json, where unknown fields are errors.
	Decode func([]byte) (T, error)
	// Apply checks a value and puts it into force. An error refuses it: what was in force
	// stays, and the value is not offered again. Nil takes everything.
	Apply func(T, Value) error
	// Cache is a directory that keeps the last good value, for when the proxy is dead,
	// too. Empty: none.
	Cache string
	// Log is where changes are told. Nil: nowhere.
	Log *slog.Logger
}

// Subscription follows one configuration.
type Subscription[T any] struct {
	o     Options[T]
	log   *slog.Logger
	tried chan struct{}

	mu      sync.Mutex // guards below
	value   T
	status  Status
	refused string // why the newest is not in force; empty when it is
	away    string // why the newest is not known; empty when it is
}

// Status is a Subscription at one moment.
type Status struct {
	Path string
	// Value is what is in force; its Version is 0 when nothing is.
	Value Value
	// From says where that came from: "proxy" or "cache"; empty: from nowhere yet.
	From string
	// Problem says why what is in force may not be what landed last: it was refused, or
	// removed, or the proxy does not answer; empty when all is well.
	Problem string
}

// String is the status in one line.
func (s Status) String() string {
	text := fmt.Sprintf("configuration %s: none yet", s.Path)
	if s.Value.Version > 0 {
		text = fmt.Sprintf("configuration %s: version %d of revision %s in force", s.Path, s.Value.Version, s.Value.Revision)
		if a := s.Value.Age(); a >= 0 {
			text += fmt.Sprintf(", confirmed %v ago", a.Round(100*time.Millisecond))
		}
	}
	if s.Problem != "" {
		text += "; " + s.Problem
	}
	return text
}

// Subscribe makes a Subscription. Run starts it.
func Subscribe[T any](o Options[T]) (*Subscription[T], error) {
	if o.Client == nil || o.Path == "" {
		return nil, errors.New("subscribe: expected a client and a path")
	}
	if o.Decode == nil {
		o.Decode = decodeStrictly[T]
	}
	if o.Apply == nil {
		o.Apply = func(T, Value) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Subscription[T]{o: o, log: o.Log, tried: make(chan struct{}), status: Status{Path: o.Path}}, nil
}

func decodeStrictly[T any](b []byte) (v T, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, err
	}
	if _, err := d.Token(); err != io.EOF {
		return v, errors.New("something follows the value")
	}
	return v, nil
}

// Tried is closed when Run has asked for the first time: what the proxy, or the cache, has is
// in force then.
func (s *Subscription[T]) Tried() <-chan struct{} { return s.tried }

// Value is what is in force; ok is false when nothing is.
func (s *Subscription[T]) Value() (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, s.status.Value.Version > 0
}

// Status may be called at any time.
func (s *Subscription[T]) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Problem = s.refused
	if s.away != "" {
		if st.Problem != "" {
			st.Problem += "; "
		}
		st.Problem += s.away
	}
	return st
}

// Run follows the configuration until ctx ends. It is called once. Apply is called by its goroutine alone.
func (s *Subscription[T]) Run(ctx context.Context) error {
	v, err := s.o.Client.Get(ctx, s.o.Path)
	var absent *AbsentError
	after := uint64(0)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		s.take(v, "proxy")
		after = v.Version
	case errors.As(err, &absent): // somebody removed it: what is on the disk is void
		s.trouble(err, time.Time{})
	default:
		s.trouble(err, time.Time{})
		if s.o.Cache != "" {
			after = s.fromCache()
		}
	}
	close(s.tried)
	return s.o.Client.Watch(ctx, s.o.Path, after, func(v Value) error {
		s.take(v, "proxy")
		return nil
	}, s.trouble)
}

// fromCache takes the last good value, and gives its version.
func (s *Subscription[T]) fromCache() uint64 {
	v, err := loadLastGood(s.o.Cache, s.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		s.log.Warn("last good configuration cannot be read", "path", s.o.Path, "error", err)
		return 0
	}
	s.take(v, "cache")
	return v.Version
}

// take puts a value into force, or says why it does not.
func (s *Subscription[T]) take(v Value, from string) {
	t, err := s.o.Decode(v.JSON)
	if err == nil {
		err = s.o.Apply(t, v)
	}
	if err != nil {
		s.mu.Lock()
		s.refused = fmt.Sprintf("version %d of revision %s was refused, the last good one stays: %v", v.Version, v.Revision, err)
		s.mu.Unlock()
		s.log.Warn("configuration refused, the last good one stays", "path", s.o.Path, "version", v.Version, "error", err)
		return
	}
	s.mu.Lock()
	s.value, s.status.Value, s.status.From, s.refused = t, v, from, ""
	s.mu.Unlock()
	s.log.Info("configuration in force", "path", s.o.Path, "version", v.Version, "age", v.Age())
	if s.o.Cache != "" && from != "cache" {
		if err := saveLastGood(s.o.Cache, v); err != nil {
			s.log.Warn("last good configuration not kept", "path", s.o.Path, "error", err)
		}
	}
}

// trouble notes what Watch says.
func (s *Subscription[T]) trouble(err error, confirmed time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !confirmed.IsZero() && s.refused == "" && s.status.Value.Version > 0 {
		s.status.Value.Confirmed = confirmed
	}
	was := s.away
	s.away = ""
	if err != nil {
		s.away = err.Error()
	}
	if s.away != "" && was == "" {
		s.log.Warn("configuration is not followed, the last good one stays", "path", s.o.Path, "error", err)
	}
}
