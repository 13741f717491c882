package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/api/registryapi"
)

// Bounds of a Client.
const (
	dialTimeout = 5 * time.Second
	// callTimeout holds for calls whose context has no deadline: longer than the
	// server's, so that the server's own answer comes first.
	callTimeout = 90 * time.Second
	// maxIdle connections are kept; more calls at once open more for their time.
	maxIdle = 8
	// maxAnswer and maxItems bound an answer: a page of 10,000 large servers.
	maxAnswer = 64 << 20
	maxItems  = 1 << 20
)

// Client calls the services of one address. It may be used concurrently: calls
// that run at once take a connection each. A connection that broke while idle (the
// server was restarted) is replaced silently; all calls are idempotent, so that
// one which got no answer at all is sent again once.
type Client struct {
	Registry registryapi.Registry
	Control  controlapi.Control
	// Configuration is refused by servers that keep none.
	Configuration configapi.Configuration

	network, address string

	mu     sync.Mutex // guards below
	idle   []net.Conn
	closed bool
}

// SplitAddress takes an address as users write it apart for net.Dial and
// net.Listen: host:port, tcp://host:port or unix:///path.
func SplitAddress(addr string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", fmt.Errorf("address %q has no absolute path, expected unix:///run/zonecast.sock", addr)
		}
		return "unix", path, nil
	}
	addr = strings.TrimPrefix(addr, "tcp://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", "", fmt.Errorf("address %q: expected host:port such as 127.0.0.1:7353, or unix:///path", addr)
	}
	return "tcp", addr, nil
}

// Dial connects once, so that a wrong address is an error here and now.
func Dial(ctx context.Context, addr string) (*Client, error) {
	network, address, err := SplitAddress(addr)
	if err != nil {
		return nil, err
	}
	c := &Client{network: network, address: address}
	c.Registry = registryapi.NewRegistryClient(caller{c, RegistryService})
	c.Control = controlapi.NewControlClient(caller{c, ControlService})
	c.Configuration = configapi.NewConfigurationClient(caller{c, ConfigurationService})
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.put(conn)
	return c, nil
}

// Of is the Control of one dataset, where that is served.
func (c *Client) Of(dataset string) controlapi.Control {
	return controlapi.NewControlClient(caller{c, ControlOf + dataset})
}

// Close closes idle connections; running calls end by themselves.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var err error
	for _, conn := range c.idle {
		err = errors.Join(err, conn.Close())
	}
	c.idle = nil
	return err
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, c.network, c.address)
}

// take gives an idle connection, or nil.
func (c *Client) take() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	conn := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return conn
}

func (c *Client) put(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

// caller is the thrift.TClient of one service.
type caller struct {
	client  *Client
	service string
}

func (k caller) Call(ctx context.Context, method string, args, result thrift.TStruct) (thrift.ResponseMeta, error) {
	err := k.call(ctx, method, args, result)
	// What the server answered is the caller's business; what went wrong on the
	// way needs to say where.
	var app thrift.TApplicationException
	if err != nil && !errors.As(err, &app) {
		err = fmt.Errorf("call %s at %s: %w", method, k.client.address, err)
	}
	return thrift.ResponseMeta{}, err
}

func (k caller) call(ctx context.Context, method string, args, result thrift.TStruct) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out := &frame{}
	out.begin()
	p := protocol(out, maxAnswer, maxItems)
	if err := p.WriteMessageBegin(ctx, k.service+thrift.MULTIPLEXED_SEPARATOR+method, thrift.CALL, 1); err != nil {
		return err
	}
	if err := args.Write(ctx, p); err != nil {
		return err
	}
	if err := p.WriteMessageEnd(ctx); err != nil {
		return err
	}
	request, err := out.end(maxAnswer)
	if err != nil {
		return err
	}
	var in *frame
	for {
		conn := k.client.take()
		reused := conn != nil
		if !reused {
			if conn, err = k.client.dial(ctx); err != nil {
				return deadlineOf(ctx, err)
			}
		}
		in, err = exchange(ctx, conn, request)
		if err == nil {
			k.client.put(conn)
			break
		}
		conn.Close()
		if !reused || ctx.Err() != nil || isTimeout(err) {
			return deadlineOf(ctx, err)
		}
	}
	return decode(ctx, in, method, result)
}

// exchange sends the request and reads the answer, all before ctx ends.
func exchange(ctx context.Context, conn net.Conn, request []byte) (*frame, error) {
	// The context always has a deadline (call sets one); it alone interrupts, so that
	// its error and not the socket's is what the caller gets.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	n, err := readHeader(conn, maxAnswer)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the server closed the connection without an answer")
		}
		return nil, err
	}
	in := &frame{}
	if err := readBody(in, conn, n); err != nil {
		return nil, err
	}
	if !stop() { // the deadline may be spoilt already: the connection is not to be reused
		return nil, ctx.Err()
	}
	return in, nil
}

func decode(ctx context.Context, in *frame, method string, result thrift.TStruct) error {
	p := protocol(in, maxAnswer, maxItems)
	name, kind, _, err := p.ReadMessageBegin(ctx)
	if err != nil {
		return err
	}
	switch {
	case kind == thrift.EXCEPTION:
		x := thrift.NewTApplicationException(thrift.UNKNOWN_APPLICATION_EXCEPTION, "")
		if err := x.Read(ctx, p); err != nil {
			return err
		}
		return x
	case kind != thrift.REPLY || name != method:
		return fmt.Errorf("answer is of type %d for %q, expected a reply to %s", kind, name, method)
	}
	if err := result.Read(ctx, p); err != nil {
		return err
	}
	return p.ReadMessageEnd(ctx)
}

// deadlineOf gives the context's error instead of the i/o timeout it caused.
func deadlineOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
