package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
)

// Bounds of requests.
const (
	// maxWait is the longest poll: below the two minutes after which what stands between
	// two programs tends to lose patience.
	maxWait = 60 * time.Second
	// writeTime is what an answer may take beyond its wait: 16 MiB to a slow program.
	writeTime = 30 * time.Second
	listLimit = 1000 // configurations of a list
)

// Headers of answers.
const (
	headerVersion  = "Zonecast-Version"
	headerRevision = "Zonecast-Revision"
	headerType     = "Zonecast-Type"
	headerAge      = "Zonecast-Age-Ms"
	headerProblem  = "Zonecast-Problem"
)

// Handler serves the API of docs/local-configuration.md.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /config/{path...}", func(w http.ResponseWriter, r *http.Request) {
		path := r.PathValue("path")
		if path == "" || path[len(path)-1] == '/' {
			p.serveList(w, r, path)
			return
		}
		p.serveConfig(w, r, path)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, p.Status()) })
	return mux
}

// problemView is the body of an answer that is not what was asked for.
type problemView struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(tree.Encode(v), '\n')) // an error is the reader's hanging up
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	switch {
	case errors.Is(err, errOutside):
		status = http.StatusForbidden
	case errors.Is(err, errUnknown), errors.Is(err, errStopping), errors.Is(err, errLacking):
		status = http.StatusServiceUnavailable
	case errors.Is(err, errTooMany):
		status = http.StatusTooManyRequests
	}
	reply(w, status, problemView{err.Error()})
}

func (p *Proxy) serveConfig(w http.ResponseWriter, r *http.Request, path string) {
	q := r.URL.Query()
	for key := range q {
		if key != "after" && key != "wait" {
			refuse(w, fmt.Errorf("parameter %q is none of after and wait", key))
			return
		}
	}
	var got reading
	var err error
	newer := true
	if !q.Has("after") {
		got, err = p.shelf.get(path)
	} else {
		var after uint64
		if after, err = strconv.ParseUint(q.Get("after"), 10, 64); err != nil {
			refuse(w, fmt.Errorf("after is %q, expected a version", q.Get("after")))
			return
		}
		wait := time.Duration(0)
		if q.Has("wait") {
			if wait, err = time.ParseDuration(q.Get("wait")); err != nil || wait < 0 || wait > maxWait {
				refuse(w, fmt.Errorf("wait is %q, expected 0s to %v", q.Get("wait"), maxWait))
				return
			}
		}
		// The server's own deadlines are for requests that do not wait.
		rc := http.NewResponseController(w)
		deadline := time.Now().Add(wait + writeTime)
		if err := errors.Join(rc.SetReadDeadline(deadline), rc.SetWriteDeadline(deadline)); err != nil {
			p.log.Debug("deadline of a request not moved", "error", err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		got, newer, err = p.shelf.next(ctx, path, after, p.cfg.MaxWaiting)
	}
	h := w.Header()
	tell(h, got)
	switch {
	case err != nil:
		refuse(w, err)
	case !newer && got.item != nil:
		w.WriteHeader(http.StatusNotModified)
	case got.item == nil:
		reply(w, http.StatusNotFound, problemView{fmt.Sprintf("there is no configuration %s", path)})
	default:
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Length", strconv.Itoa(len(got.item.value)))
		_, _ = w.Write(got.item.value)
	}
}

// tell puts into headers what is known beside the value.
func tell(h http.Header, r reading) {
	h.Set(headerVersion, strconv.FormatUint(r.version, 10))
	h.Set(headerAge, strconv.FormatInt(milliseconds(r.age), 10))
	if r.problem != "" {
		h.Set(headerProblem, r.problem)
	}
	if r.item != nil {
		h.Set(headerRevision, r.item.entry.Revision)
		h.Set(headerType, r.item.entry.Type)
	}
}

// milliseconds of an age; -1: not known.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

// ListView is the answer to a list.
type ListView struct {
	Version  uint64       `json:"version"`
	Revision string       `json:"revision"`
	Age      int64        `json:"age_ms"`
	Problem  string       `json:"problem,omitempty"`
	Configs  []ConfigView `json:"configs"`
	Next     string       `json:"next,omitempty"`
}

// ConfigView is one configuration of a list.
type ConfigView struct {
	Path     string   `json:"path"`
	Type     string   `json:"type"`
	Version  uint64   `json:"version"`
	Revision string   `json:"revision"`
	Size     int      `json:"size"`
	Age      int64    `json:"age_ms"`
	Sources  []string `json:"sources"`
	More     int      `json:"more,omitempty"`
	Problem  string   `json:"problem,omitempty"`
}

func (p *Proxy) serveList(w http.ResponseWriter, r *http.Request, prefix string) {
	if err := configtree.CheckPrefix(prefix); err != nil {
		refuse(w, err)
		return
	}
	q := r.URL.Query()
	limit := listLimit
	for key := range q {
		var err error
		switch key {
		case "limit":
			if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > listLimit {
				err = fmt.Errorf("limit is %q, expected 1 to %d", q.Get("limit"), listLimit)
			}
		case "from":
			err = configtree.CheckPath(q.Get("from"))
		default:
			err = fmt.Errorf("parameter %q is none of from and limit", key)
		}
		if err != nil {
			refuse(w, err)
			return
		}
	}
	all, next, now, err := p.shelf.list(prefix, q.Get("from"), limit)
	if err != nil {
		tell(w.Header(), now)
		refuse(w, err)
		return
	}
	v := ListView{Version: now.head.Version, Revision: now.head.Revision, Age: milliseconds(now.age), Problem: now.problem, Configs: make([]ConfigView, len(all)), Next: next}
	for i, c := range all {
		e := c.item.entry
		v.Configs[i] = ConfigView{c.path, e.Type, c.version, e.Revision, e.Size, milliseconds(c.age), e.Sources, e.More, c.problem}
	}
	reply(w, http.StatusOK, v)
}

// Status is the proxy's state for people.
type Status struct {
	Version  uint64   `json:"version"`  // newest landing that is served
	Revision string   `json:"revision"` // of the source repository
	Age      int64    `json:"age_ms"`   // since the store confirmed it; -1: never
	Whole    bool     `json:"whole"`    // what is not here is not in the store
	Configs  int      `json:"configurations"`
	Size     int64    `json:"size"` // octets of all values
	Waiting  int      `json:"waiting"`
	Prefixes []string `json:"prefixes"` // followed; empty: all
	// Store says why the store could not be asked last; Cache why the disk does not have
	// what is served, or why the cache was begun anew; empty when all is well.
	Store    string   `json:"store,omitempty"`
	Cache    string   `json:"cache,omitempty"`
	Anew     string   `json:"anew,omitempty"`
	Problems []string `json:"problems"` // what of the store is not taken, and why; at most 100
}

// Status may be called at any time.
func (p *Proxy) Status() Status {
	p.mu.Lock()
	st := Status{Store: p.away, Cache: p.cacheIs, Anew: p.anew, Prefixes: p.shelf.scope.Prefixes}
	p.mu.Unlock()
	s := p.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Version, st.Revision, st.Age, st.Whole = s.head.Version, s.head.Revision, milliseconds(age(s.asOf)), s.whole
	st.Configs, st.Size, st.Waiting = len(s.items), s.size, s.waiting
	st.Problems = []string{}
	for path, why := range s.lacking {
		st.Problems = append(st.Problems, path+": "+why)
	}
	slices.Sort(st.Problems)
	if s.trouble != "" {
		st.Problems = slices.Insert(st.Problems, 0, s.trouble)
	}
	const most = 100
	st.Problems = st.Problems[:min(len(st.Problems), most)]
	return st
}
