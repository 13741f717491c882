package wire

import (
	"runtime"
	"sync"
)

// A thread that answers UDP keeps the processor of the Go scheduler that it has, also
// while it sleeps in the kernel for a moment: it would get another one too late. So each
// brings one of its own, and what else the process does - following a journal, building
// an image, collecting memory - takes turns with it by the kernel's scheduler, and not
// by Go's, which lets whoever runs go on for 10 ms.
//
// Go takes a processor away from who sleeps in a call and from who runs for 10 ms; spare
// are some that nobody needs, so that one is there when it is wanted back.
const spare = 4

var processors struct {
	mu      sync.Mutex // guards below
	others  int        // GOMAXPROCS without threads; 0: as it is
	threads int
}

// Processors is GOMAXPROCS without what threads of servers have brought.
func Processors() int {
	p := &processors
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.threads == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return p.others
}

// bring adds processors for n threads; a negative n takes them back.
func bring(n int) {
	p := &processors
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.threads == 0 {
		p.others = runtime.GOMAXPROCS(0)
	}
	p.threads += n
	if p.threads == 0 {
		runtime.GOMAXPROCS(p.others)
		return
	}
	runtime.GOMAXPROCS(p.others + p.threads + spare)
}
