package wire

import "github.com/zonecast/zonecast/authority/protocol"

// Message is one query of a batch and the room for its response: over UDP with
// capacity for MaxUDP octets, over TCP it is grown.
type Message = protocol.Message

// Handler answers batches, called by one goroutine at a time. All messages of a batch
// came by the same transport, those of TCP by the same connection.
type Handler interface {
	Answer(batch []Message, t protocol.Transport)
}

// NewHandler gives a Handler; done is called when it is not needed any more.
type NewHandler func() (h Handler, done func())
