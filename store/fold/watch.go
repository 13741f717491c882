package fold

import (
	"context"

	"github.com/zonecast/zonecast/store"
)

// Watch gives a reader, in batches, what follow sends, until ctx or the life of the engine ends, and then
// calls done. follow never waits for the reader, and returns when its context ends.
func Watch(ctx, life context.Context, follow func(ctx context.Context, to chan<- Increment), done func()) <-chan store.Batch {
	out := make(chan store.Batch)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	increments := make(chan Increment)
	go func() {
		defer done()
		defer close(out)
		defer stop()
		defer cancel()
		followed := make(chan struct{})
		go func() {
			defer close(followed)
			follow(ctx, increments)
		}()
		Offer(ctx, increments, out)
		<-followed
	}()
	return out
}

// Closed is the watch of who is not given one.
func Closed() <-chan store.Batch {
	out := make(chan store.Batch)
	close(out)
	return out
}
