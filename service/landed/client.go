package landed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// DefaultSocket is where a proxy listens that was not told otherwise.
const DefaultSocket = "/run/zonecast/config.sock"

// Our own bounds.
const (
	// MaxValue is the largest value that is taken, in octets: the largest that can land.
	MaxValue = 16 << 20
	// maxList bounds a list: 1,000 configurations with 16 KiB of sources each.
	maxList = 20 << 20
	// pollTime is how long a long poll waits, a little less than the proxy allows.
	pollTime = 55 * time.Second
	// answerTime is what an answer may take beyond its wait.
	answerTime = 30 * time.Second
	maxIdle    = 4 // connections kept between requests
)

// Value is a configuration at one moment.
type Value struct {
	Path     string
	Type     string
	Revision string // of the source repository
	Version  uint64 // the landing that brought it; greater is newer
	JSON     []byte
	// Problem says why what the store has newer is not here; empty when all is well.
	Problem string
	// Confirmed is when the store last confirmed that this is the newest, by this
	// machine's clock; zero: it is not known.
	Confirmed time.Time
}

// Age is how long ago the store last confirmed that this is the newest; -1 when that is not
// known.
func (v Value) Age() time.Duration {
	if v.Confirmed.IsZero() {
		return -1
	}
	return max(0, time.Since(v.Confirmed))
}

// ErrUnchanged means that a wait ended without anything newer.
var ErrUnchanged = errors.New("nothing newer")

// AbsentError means that there is no such configuration.
type AbsentError struct {
	Path    string
	Version uint64        // as of this landing; a wait goes on from here
	Age     time.Duration // since the store confirmed that; -1: not known
}

func (e *AbsentError) Error() string { return "there is no configuration " + e.Path }

// StatusError is an answer by which the proxy refuses or cannot tell.
type StatusError struct {
	Status int
	Text   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("proxy answers %d: %s", e.Status, e.Text) }

// Client asks a proxy. Its methods may be called concurrently.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the proxy that listens on a unix socket. It connects when it
// is asked something.
func NewClient(socket string) *Client {
	return newClient(socket, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}

// NewClientDial makes a client that connects as dial does; name is for messages.
func NewClientDial(name string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	return newClient(name, dial)
}

func newClient(name string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
	return &Client{name, &http.Client{Transport: t}}
}

// Socket is where the proxy is asked.
func (c *Client) Socket() string { return c.socket }

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get gives the newest that the proxy has. Errors that callers branch on: *AbsentError,
// *StatusError.
func (c *Client) Get(ctx context.Context, path string) (Value, error) {
	return c.value(ctx, path, nil, 0)
}

// Next waits until there is something newer than version after, at most for wait (60 s at
// most). Nothing newer is ErrUnchanged; the Value then says what is known of the one there
// is, but not its JSON.
func (c *Client) Next(ctx context.Context, path string, after uint64, wait time.Duration) (Value, error) {
	return c.value(ctx, path, url.Values{"after": {strconv.FormatUint(after, 10)}, "wait": {wait.String()}}, wait)
}

func (c *Client) value(ctx context.Context, path string, q url.Values, wait time.Duration) (Value, error) {
	resp, body, err := c.ask(ctx, "/config/"+path, q, wait, MaxValue)
	if err != nil {
		return Value{}, fmt.Errorf("get configuration %s: %w", path, err)
	}
	h := resp.Header
	v := Value{Path: path, Type: h.Get("Zonecast-Type"), Revision: h.Get("Zonecast-Revision"), Problem: h.Get("Zonecast-Problem"), JSON: body}
	if v.Version, err = strconv.ParseUint(h.Get("Zonecast-Version"), 10, 64); err != nil {
		return Value{}, fmt.Errorf("get configuration %s: answer %d of %s has the version %q: is it a proxy of configurations?", path, resp.StatusCode, c.socket, h.Get("Zonecast-Version"))
	}
	if ms, err := strconv.ParseInt(h.Get("Zonecast-Age-Ms"), 10, 64); err == nil && ms >= 0 && ms < int64(maxAge/time.Millisecond) {
		v.Confirmed = time.Now().Add(-time.Duration(ms) * time.Millisecond)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if !json.Valid(v.JSON) {
			return Value{}, fmt.Errorf("get configuration %s: the value is not JSON", path)
		}
		return v, nil
	case http.StatusNotModified:
		v.JSON = nil
		return v, ErrUnchanged
	case http.StatusNotFound:
		return Value{}, &AbsentError{path, v.Version, v.Age()}
	}
	return Value{}, fmt.Errorf("get configuration %s: %w", path, refused(resp, body))
}

// maxAge is the greatest age that is believed.
const maxAge = 100 * 365 * 24 * time.Hour

// refused is what an answer says that is not what was asked for.
func refused(resp *http.Response, body []byte) error {
	var v struct {
		Error string `json:"error"`
	}
	const most = 500
	if json.Unmarshal(body, &v) != nil || v.Error == "" {
		v.Error = http.StatusText(resp.StatusCode)
	}
	return &StatusError{resp.StatusCode, v.Error[:min(len(v.Error), most)]}
}

// ask gets a page of the proxy, of at most so many octets.
func (c *Client) ask(ctx context.Context, path string, q url.Values, wait time.Duration, most int64) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait+answerTime, fmt.Errorf("no answer within %v", wait+answerTime))
	defer cancel()
	u := url.URL{Scheme: "http", Host: "proxy", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, nil, fmt.Errorf("ask %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("ask %s: %w", c.socket, err)
	case int64(len(body)) > most:
		return nil, nil, fmt.Errorf("ask %s: answer of more than %d octets", c.socket, most)
	}
	return resp, body, nil
}

// List is a proxy's list of configurations, as it gives it.
type List struct {
	Version  uint64   `json:"version"`
	Revision string   `json:"revision"`
	Age      int64    `json:"age_ms"`
	Problem  string   `json:"problem,omitempty"`
	Configs  []Listed `json:"configs"`
	Next     string   `json:"next,omitempty"`
}

// Listed is one configuration of a List.
type Listed struct {
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

// List gives configurations whose paths begin with prefix, from path from on; List.Next is
// where to go on.
func (c *Client) List(ctx context.Context, prefix, from string) (List, error) {
	q := url.Values{}
	if from != "" {
		q.Set("from", from)
	}
	var l List
	resp, body, err := c.ask(ctx, "/config/"+prefix, q, 0, maxList)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = refused(resp, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &l)
	}
	if err != nil {
		return List{}, fmt.Errorf("list configurations: %w", err)
	}
	return l, nil
}
