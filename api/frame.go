package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/thrift/lib/go/thrift"
)

// frameHeader is the length in front of each message: u32, big endian, octets.
const frameHeader = 4

// frame is a thrift.TTransport over one message in memory: a message is read
// whole before it is decoded and encoded whole before it is written, so that the
// bounds on time and memory stand in one place, around it.
type frame struct {
	bytes.Buffer
	// alive tells whether the peer is still there; nil means yes. Generated code
	// asks it every few milliseconds while a handler runs.
	alive func() bool
}

func (f *frame) Open() error                 { return nil }
func (f *frame) Close() error                { return nil }
func (f *frame) IsOpen() bool                { return f.alive == nil || f.alive() }
func (f *frame) Flush(context.Context) error { return nil }
func (f *frame) RemainingBytes() uint64      { return uint64(f.Len()) }

var _ thrift.TRichTransport = (*frame)(nil)

// readHeader reads a message's length and checks it against most.
func readHeader(r io.Reader, most int) (int, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n == 0 || uint64(n) > uint64(most) {
		return 0, fmt.Errorf("message of %d octets, expected 1 to %d; is the peer a framed Thrift client?", n, most)
	}
	return int(n), nil
}

// readBody reads n octets into f; memory grows with what arrives, not with what
// the header promised.
func readBody(f *frame, r io.Reader, n int) error {
	if _, err := io.CopyN(&f.Buffer, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// begin makes room for the header; end fills it in and gives the whole message.
func (f *frame) begin() {
	f.Reset()
	f.Write(make([]byte, frameHeader))
}

func (f *frame) end(most int) ([]byte, error) {
	b := f.Bytes()
	if n := len(b) - frameHeader; n > most {
		return nil, fmt.Errorf("message of %d octets, at most %d", n, most)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-frameHeader))
	return b, nil
}

func protocol(f *frame, maxFrame, maxItems int) thrift.TProtocol {
	return thrift.NewTCompactProtocolConf(f, &thrift.TConfiguration{
		MaxMessageSize:   int32(maxFrame),
		MaxFrameSize:     int32(maxFrame),
		MaxContainerSize: int32(maxItems),
	})
}
