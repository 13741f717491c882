package wire

import (
	"io"
	"net"

	"github.com/zonecast/zonecast/store"
)

// Message is one or several frames that differ by their id alone: many watchers are sent the
// same octets.
type Message struct {
	kinds    []Kind
	payloads [][]byte
	size     int
}

// Size is about the octets that are sent.
func (m *Message) Size() int { return m.size }

// Frames is how many frames there are.
func (m *Message) Frames() int { return len(m.payloads) }

// WriteFrame sends one of the frames with an id.
func (m *Message) WriteFrame(w io.Writer, i int, id uint64) error {
	bufs := net.Buffers{AppendHeader(nil, m.kinds[i], id, len(m.payloads[i])), m.payloads[i]}
	_, err := bufs.WriteTo(w)
	return err
}

func (m *Message) add(kind Kind, payload []byte) {
	m.kinds, m.payloads = append(m.kinds, kind), append(m.payloads, payload)
	m.size += 4 + header + len(payload)
}

// Single is a message of one frame.
func Single(kind Kind, payload []byte) *Message {
	var m Message
	m.add(kind, payload)
	return &m
}

// BatchMessage gives batch as parts, if it is long, and the Batch itself. The paths of its
// Deletes have at most MaxDeletes octets.
func BatchMessage(batch store.Batch) *Message {
	var m Message
	batch.Puts = m.parts(batch.Puts)
	m.add(Batch, AppendBatch(nil, batch))
	return &m
}

// ListMessage gives the answer to a List.
func ListMessage(nodes []store.Node, rev store.Revision) *Message {
	var m Message
	nodes = m.parts(nodes)
	payload := AppendRevision(nil, rev)
	for _, n := range nodes {
		payload = AppendNode(payload, n)
	}
	m.add(Answer, payload)
	return &m
}

// MaxDeletes is octets of the paths that one Batch may delete; who has more sends a Reset.
const MaxDeletes = 256 << 10

// NodeOverhead is the most octets that a node takes beside its path and value: flags 1, length of the
// path 2, two revisions of 9, length of the value 3.
const NodeOverhead = 24

// parts adds nodes in Parts, but for the last ones, which it returns.
func (m *Message) parts(nodes []store.Node) []store.Node {
	for {
		size, n := 0, 0
		for n < len(nodes) && size < PartSize {
			size += len(nodes[n].Path) + len(nodes[n].Value) + NodeOverhead
			n++
		}
		if n == len(nodes) {
			return nodes
		}
		payload := make([]byte, 0, size)
		for _, node := range nodes[:n] {
			payload = AppendNode(payload, node)
		}
		m.add(Part, payload)
		nodes = nodes[n:]
	}
}
