package tap

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// flushEvery is how long a message waits at most before it goes to the system.
const flushEvery = time.Second

// Tap is the one writer, and the queue that all Workers put messages into.
type Tap struct {
	config  Config
	log     *slog.Logger
	every   int
	queue   *queue
	always  budget
	file    *file         // nil for a socket
	reopen  chan struct{} // Reopen was called; room for one
	encoder *encoder
	// pending are the messages in the buffer of the stream, which only Run knows of.
	pending uint64

	written, lost atomic.Uint64
	connected     atomic.Bool
}

// Counters tell what became of the messages. Written and Lost only grow.
type Counters struct {
	// Written went to the system: into the file, or to the socket, where a collector
	// that ends may still leave them.
	Written uint64
	// Lost found too many others waiting, or were still waiting when the collector
	// went or Run ended.
	Lost uint64
	// Connected tells that the collector is there, or that the file can be written.
	Connected bool
}

// Counters are those of now.
func (t *Tap) Counters() Counters {
	return Counters{Written: t.written.Load(), Lost: t.lost.Load(), Connected: t.connected.Load()}
}

// Open takes the memory of the queue and makes the file; to a socket, Run connects.
// Run must follow: it closes the file.
func Open(c Config, log *slog.Logger) (*Tap, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure dnstap: %w", err)
	}
	t := &Tap{config: c, log: log, every: or(c.Every, defaultEvery), encoder: newEncoder(c.Identity, c.Version), reopen: make(chan struct{}, 1)}
	if c.File != "" {
		var err error
		if t.file, err = newFile(c); err != nil {
			return nil, err
		}
	}
	t.queue = newQueue(or(c.Queue, defaultQueue))
	t.always.most = int64(or(c.AlwaysRate, defaultAlwaysRate))
	return t, nil
}

// Run writes what the Workers record until ctx ends; then what waits, and the frame
// that ends the stream. It is called once. A collector that goes is no error, nor a
// disk that is full: the server goes on.
func (t *Tap) Run(ctx context.Context) error {
	defer t.end()
	if t.file != nil {
		return t.runFile(ctx)
	}
	t.runSocket(ctx)
	return nil
}

// end counts what still waits as lost, and all that comes later.
func (t *Tap) end() {
	t.connected.Store(false)
	t.queue.close()
	for range t.queue.taken() {
		t.drop(<-t.queue.wait)
	}
}

func (t *Tap) drop(s *slot) {
	t.queue.release(s)
	t.lost.Add(1)
}

// stream is where messages go.
type stream interface {
	WriteFrame(payload []byte) (int, error)
	Flush() error
	// full tells whether next has to be called before a payload of n octets.
	full(n int) bool
	// look is called every flushEvery: it finds what ends the stream, and tells whether next
	// has to be called.
	look() (next bool, err error)
	// next ends the stream in order, once all of it was flushed, and begins another one.
	next() error
}

// pump writes messages until ctx ends, which is no error; then what waited at that
// time.
func (t *Tap) pump(ctx context.Context, w stream) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case s := <-t.queue.wait:
			err = t.write(w, s)
		case <-tick.C:
			var next bool
			if next, err = w.look(); err == nil {
				err = t.flush(w)
			}
			if next && err == nil {
				err = w.next()
			}
		case <-t.reopen:
			if err = t.flush(w); err == nil {
				err = w.next()
			}
		case <-ctx.Done():
			for range len(t.queue.wait) { // there is no other reader
				if err := t.write(w, <-t.queue.wait); err != nil {
					return t.fail(err)
				}
			}
			if err := t.flush(w); err != nil {
				return t.fail(err)
			}
			return nil
		}
		if err != nil {
			return t.fail(err)
		}
	}
}

func (t *Tap) write(w stream, s *slot) error {
	payload, err := t.encoder.encode(s)
	t.queue.release(s)
	if err == nil && w.full(len(payload)) {
		if err := t.flush(w); err != nil {
			t.pending++
			return err
		}
		err = w.next()
	} else if err != nil {
		err = fmt.Errorf("encode dnstap message: %w", err)
	}
	t.pending++
	if err == nil {
		_, err = w.WriteFrame(payload)
	}
	return err
}

func (t *Tap) flush(w stream) error {
	if err := w.Flush(); err != nil {
		return err
	}
	t.written.Add(t.pending)
	t.pending = 0
	return nil
}

// fail counts what was not flushed as lost: some of it may have got through.
func (t *Tap) fail(err error) error {
	t.lost.Add(t.pending)
	t.pending = 0
	return err
}
