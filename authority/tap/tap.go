package tap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
)

// flushEvery is how long a message waits at most before it goes to the system.
const flushEvery = time.Second

// Tap is the one writer, and the queue that all Workers put messages into.
type Tap struct {
	config  Config
	log     *slog.Logger
	every   int
	queue   *queue
	file    *os.File // nil for a socket
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
	t := &Tap{config: c, log: log, every: or(c.Every, defaultEvery), encoder: newEncoder(c.Identity, c.Version)}
	if c.File != "" {
		// To open a pipe would wait for its reader.
		if info, err := os.Stat(c.File); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("open dnstap file: %s is a %s, expected a regular file or none", c.File, info.Mode())
		}
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open dnstap file: %w", err)
		}
		t.file = f
	}
	t.queue = newQueue(or(c.Queue, defaultQueue))
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

func (t *Tap) runFile(ctx context.Context) error {
	w, err := framestream.NewWriter(t.file, &framestream.WriterOptions{ContentTypes: [][]byte{dnstap.FSContentType}})
	if err == nil {
		t.connected.Store(true)
		err = t.pump(ctx, w, func() error { return nil })
	}
	if err == nil {
		if err = errors.Join(w.Close(), t.file.Close()); err != nil {
			return fmt.Errorf("end dnstap file %s: %w", t.config.File, err)
		}
		return nil
	}
	// A frame may be there in part; what follows would not be understood.
	t.connected.Store(false)
	t.log.Error("dnstap file cannot be written, nothing more goes there until the next start", "file", t.config.File, "error", err)
	t.file.Close() // the error is known
	for {
		select {
		case s := <-t.queue.wait:
			t.drop(s)
		case <-ctx.Done():
			return nil
		}
	}
}

// pump writes messages until ctx ends, which is no error; then what waited at that
// time. present is asked now and then whether the collector is still there.
func (t *Tap) pump(ctx context.Context, w *framestream.Writer, present func() error) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case s := <-t.queue.wait:
			err = t.write(w, s)
		case <-tick.C:
			if err = present(); err == nil {
				err = t.flush(w)
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

func (t *Tap) write(w *framestream.Writer, s *slot) error {
	payload, err := t.encoder.encode(s)
	t.queue.release(s)
	t.pending++
	if err != nil {
		return fmt.Errorf("encode dnstap message: %w", err)
	}
	_, err = w.WriteFrame(payload)
	return err
}

func (t *Tap) flush(w *framestream.Writer) error {
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
