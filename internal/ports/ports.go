package ports

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

// handed is how far Free has come: what it gave to one test it gives to no other of the
// process, also while nobody listens there yet.
var handed struct {
	sync.Mutex
	ports int
}

// Free finds n consecutive ports of 127.0.0.1 that are free for UDP and TCP,
// below the range from which the kernel takes ports for outgoing connections.
func Free(t testing.TB, n int) int {
	t.Helper()
	const first, last = 20000, 32000
	handed.Lock()
	defer handed.Unlock()
	for range (last - first) / n {
		base := first + (os.Getpid()*97+handed.ports)%(last-first-n)
		handed.ports += n
		if free(base, n) {
			return base
		}
	}
	t.Fatalf("no %d free ports in a row between %d and %d", n, first, last)
	return 0
}

func free(base, n int) bool {
	for p := base; p < base+n; p++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			return false
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		l.Close()
		if err != nil {
			return false
		}
		u.Close()
	}
	return true
}
