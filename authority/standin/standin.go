package standin

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/record"
)

// Server is one stand-in, for one goroutine.
type Server struct {
	view     *data.View
	worker   *protocol.Worker
	query    []byte
	response []byte
}

// New makes a Server that has nothing. It needs a directory for temporary files for a
// moment.
func New() (*Server, error) {
	dir, err := os.MkdirTemp("", "zonecast-standin-")
	if err != nil {
		return nil, fmt.Errorf("make a stand-in: %w", err)
	}
	defer os.RemoveAll(dir) // what is mapped stays
	path := filepath.Join(dir, "image")
	b, err := image.Create(path, image.Options{NoSync: true, Own: true})
	if err != nil {
		return nil, fmt.Errorf("make a stand-in: %w", err)
	}
	defer b.Abort()
	if err := b.Finish(); err != nil {
		return nil, fmt.Errorf("make a stand-in: %w", err)
	}
	im, err := image.Open(path)
	if err != nil {
		return nil, fmt.Errorf("make a stand-in: %w", err)
	}
	return &Server{view: data.NewDataset(im), worker: protocol.NewWorker(protocol.Config{})}, nil
}

// Put gives it more RRsets, in place of those with the same keys.
func (s *Server) Put(sets []record.RRset) error {
	if len(sets) == 0 {
		return nil
	}
	put := make([]record.Set, len(sets))
	for i, r := range sets {
		put[i].RRset = r
	}
	view, err := s.view.Apply(put, nil, func(record.Name) (uint32, bool) { return 0, false })
	if err != nil {
		return err
	}
	s.view = view
	return nil
}

// Ask gives the response to a question in class IN, valid until the next call.
func (s *Server) Ask(name record.Name, t record.Type) []byte {
	const classIN = 1
	q := append(s.query[:0], 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) // one question, all flags clear
	q = append(q, name...)
	q = binary.BigEndian.AppendUint16(q, uint16(t))
	q = binary.BigEndian.AppendUint16(q, classIN)
	s.query = q
	s.response = s.worker.Respond(s.view, q, protocol.TCP, time.Time{}, s.response[:0])
	return s.response
}
