package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/store"
)

func (x *suite) get() {
	x.wantValue(x.s, "/a/b", "")
	r1 := x.commit(x.s, do(put("/a/b", "one")))
	n := x.wantValue(x.s, "/a/b", "one")
	want := store.Node{Path: "/a/b", Value: []byte("one"), Created: r1, Modified: r1}
	if diff := cmp.Diff(want, n); diff != "" {
		x.Errorf("node after the first commit (-want +got):\n%s", diff)
	}
	r2 := x.commit(x.s, do(put("/a/b", "two")))
	if r2 <= r1 {
		x.Errorf("second commit has revision %d, expected more than %d", r2, r1)
	}
	want.Value, want.Modified = []byte("two"), r2
	if diff := cmp.Diff(want, x.wantValue(x.s, "/a/b", "two")); diff != "" {
		x.Errorf("node after the second commit (-want +got):\n%s", diff)
	}
	x.wantValue(x.s, "/a", "") // a node has no parents
	x.wantValue(x.s, "/a/bc", "")

	x.commit(x.s, do(put("/empty", "")))
	if n, err := x.s.Get(x.ctx, "/empty"); err != nil || len(n.Value) != 0 {
		x.Errorf("Get of an empty node: %q, %v", n.Value, err)
	}
	x.commit(x.s, do(del("/a/b")))
	x.wantValue(x.s, "/a/b", "")
	x.commit(x.s, do(del("/a/b"))) // no error

	r3 := x.commit(x.s, do(put("/a/b", "three")))
	if n := x.wantValue(x.s, "/a/b", "three"); n.Created != r3 {
		x.Errorf("node made again was created at %d, expected %d", n.Created, r3)
	}
	binary := string([]byte{0, 255, '\n', 0x80})
	x.commit(x.s, do(put("/bin", binary)))
	x.wantValue(x.s, "/bin", binary)
}

func (x *suite) list() {
	nodes, rev, err := x.s.List(x.ctx, "/")
	if err != nil || len(nodes) != 0 || rev <= 0 {
		x.Fatalf("List of an empty tree: %v, revision %d, error %v; expected nothing at a revision above 0", nodes, rev, err)
	}
	// '!' and '0' stand before and after '/' and so tell a prefix from a range.
	x.commit(x.s, do(put("/a/2", "x"), put("/a/10", "x"), put("/a/1/z", "x"), put("/a", "x"), put("/a!/1", "x"), put("/a0", "x"), put("/b/1", "x")))
	last := x.commit(x.s, do(put("/a/1", "x")))
	nodes, rev, err = x.s.List(x.ctx, "/a/")
	if err != nil {
		x.Fatalf("List: %v", err)
	}
	var paths []string
	for _, n := range nodes {
		paths = append(paths, n.Path)
	}
	if diff := cmp.Diff([]string{"/a/1", "/a/1/z", "/a/10", "/a/2"}, paths); diff != "" {
		x.Errorf("List /a/ (-want +got):\n%s", diff)
	}
	if rev < last {
		x.Errorf("List has revision %d, expected at least %d", rev, last)
	}
	if all, _, err := x.s.List(x.ctx, "/"); err != nil || len(all) != 8 {
		x.Errorf("List / has %d nodes, error %v, expected 8", len(all), err)
	}

	// More than engines return at once.
	const many = 2500
	want := make([]string, 0, many)
	for i := range many {
		want = append(want, fmt.Sprintf("/many/%05d", i))
	}
	for i := 0; i < many; i += 100 {
		var txn store.Txn
		for _, p := range want[i : i+100] {
			txn.Do = append(txn.Do, put(p, p))
		}
		last = x.commit(x.s, txn)
	}
	nodes, rev, err = x.s.List(x.ctx, "/many/")
	if err != nil || rev < last {
		x.Fatalf("List /many/: revision %d, error %v, expected at least %d", rev, err, last)
	}
	paths = paths[:0]
	for _, n := range nodes {
		if string(n.Value) != n.Path {
			x.Fatalf("%s has the value %q", n.Path, n.Value)
		}
		paths = append(paths, n.Path)
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		x.Errorf("List /many/ (-want +got):\n%s", diff)
	}
}

func (x *suite) conditions() {
	create := store.Txn{If: []store.Cond{{Path: "/n"}}, Do: []store.Op{put("/n", "1")}}
	r1 := x.commit(x.s, create)
	_, err := x.s.Commit(x.ctx, create)
	x.wantError("creating twice", err, store.ErrConflict)
	if !strings.Contains(err.Error(), "/n") {
		x.Errorf("conflict %q does not name the node /n", err)
	}
	update := store.Txn{If: []store.Cond{{Path: "/n", Modified: r1}}, Do: []store.Op{put("/n", "2")}}
	r2 := x.commit(x.s, update)
	_, err = x.s.Commit(x.ctx, update)
	x.wantError("updating an old revision", err, store.ErrConflict)
	x.wantValue(x.s, "/n", "2")

	// The condition may be on another node than the operation, or on several.
	_, err = x.s.Commit(x.ctx, store.Txn{If: []store.Cond{{Path: "/n", Modified: r2}, {Path: "/other", Modified: 7}}, Do: []store.Op{put("/m", "1")}})
	x.wantError("a missing node with a revision", err, store.ErrConflict)
	x.wantValue(x.s, "/m", "")
	x.commit(x.s, store.Txn{If: []store.Cond{{Path: "/n", Modified: r2}, {Path: "/other"}}, Do: []store.Op{put("/m", "1"), del("/n")}})
	x.wantValue(x.s, "/m", "1")
	x.wantValue(x.s, "/n", "")
	_, err = x.s.Commit(x.ctx, store.Txn{If: []store.Cond{{Path: "/n", Modified: r2}}, Do: []store.Op{put("/n", "3")}})
	x.wantError("a revision of a deleted node", err, store.ErrConflict)
	x.commit(x.s, create)
}

func (x *suite) atomicity() {
	var txn store.Txn
	for i := range 100 {
		txn.Do = append(txn.Do, put(fmt.Sprintf("/n/%03d", i), "1"))
	}
	rev := x.commit(x.s, txn)
	nodes, _, err := x.s.List(x.ctx, "/n/")
	if err != nil || len(nodes) != 100 {
		x.Fatalf("List has %d nodes, error %v, expected 100", len(nodes), err)
	}
	for _, n := range nodes {
		if n.Modified != rev {
			x.Fatalf("%s has revision %d, expected that of the whole commit, %d", n.Path, n.Modified, rev)
		}
	}
	for i := range txn.Do {
		txn.Do[i].Value = []byte("2")
		txn.Do[i].Delete = i%2 == 0
	}
	txn.If = []store.Cond{{Path: "/n/000", Modified: rev}, {Path: "/n/099", Modified: rev + 1000}}
	_, err = x.s.Commit(x.ctx, txn)
	x.wantError("100 operations with one condition that fails", err, store.ErrConflict)
	after, _, err := x.s.List(x.ctx, "/n/")
	if err != nil {
		x.Fatalf("List: %v", err)
	}
	if diff := cmp.Diff(nodes, after); diff != "" {
		x.Errorf("a transaction that failed changed something (-before +after):\n%s", diff)
	}
}

// limits: the largest that is allowed goes through, and one more is refused
// without a change.
func (x *suite) limits() {
	big := bytes.Repeat([]byte{'v'}, store.MaxValue)
	x.commit(x.s, store.Txn{Do: []store.Op{{Path: "/value", Value: big}}})
	if n, err := x.s.Get(x.ctx, "/value"); err != nil || !bytes.Equal(n.Value, big) {
		x.Errorf("Get of the largest value: %d octets, error %v", len(n.Value), err)
	}
	long := "/" + strings.Repeat(strings.Repeat("e", 255)+"/", 3) + strings.Repeat("e", 255)
	x.commit(x.s, do(put(long, "long")))
	x.wantValue(x.s, long, "long")

	var ops store.Txn
	for i := range store.MaxTxnOps / 2 {
		ops.If = append(ops.If, store.Cond{Path: fmt.Sprintf("/ops/%d", i)})
		ops.Do = append(ops.Do, put(fmt.Sprintf("/ops/%d", i), "1"))
	}
	x.commit(x.s, ops)

	var size store.Txn
	room := store.MaxTxnBytes
	for i := 0; room > 0; i++ {
		p := fmt.Sprintf("/size/%03d", i)
		n := min(store.MaxValue, room-len(p))
		size.Do = append(size.Do, store.Op{Path: p, Value: big[:n]})
		room -= len(p) + n
	}
	before := x.commit(x.s, size)

	tooMany := store.Txn{}
	for i := range store.MaxTxnOps + 1 {
		tooMany.Do = append(tooMany.Do, put(fmt.Sprintf("/no/%d", i), "1"))
	}
	size.Do[len(size.Do)-1].Value = append(bytes.Clone(size.Do[len(size.Do)-1].Value), 'x')
	size.Do = append(size.Do, put("/no/size", ""))
	for what, txn := range map[string]store.Txn{
		"a value one octet too long":       {Do: []store.Op{put("/no/1", "1"), {Path: "/no/2", Value: append(big, 'x')}}},
		"a transaction one octet too long": size,
		"one operation too many":           tooMany,
		"nothing to do":                    {If: []store.Cond{{Path: "/value"}}},
		"a path twice":                     do(put("/no/1", "1"), del("/no/1")),
	} {
		if _, err := x.s.Commit(x.ctx, txn); err == nil {
			x.Errorf("Commit with %s: no error", what)
		} else if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) {
			x.Errorf("Commit with %s: error is %v, expected one that says what is wrong with the transaction", what, err)
		}
	}
	nodes, rev, err := x.s.List(x.ctx, "/no/")
	if err != nil || len(nodes) != 0 || rev < before {
		x.Errorf("List after refused transactions: %d nodes, revision %d, error %v", len(nodes), rev, err)
	}
}

func (x *suite) badPaths() {
	ss := x.session(x.s)
	for _, p := range []string{"", "/", "a", "a/b", "//", "/a//b", "/a/", "/a/../b", "/.", "/a b", "/é", "/a\x00", "/" + strings.Repeat("a", 256), strings.Repeat("/aaaaaaa", 129)} {
		if _, err := x.s.Get(x.ctx, p); err == nil || errors.Is(err, store.ErrNotFound) {
			x.Errorf("Get %.40q: error is %v, expected one about the path", p, err)
		}
		for what, c := range map[string]committer{"Store": x.s, "Session": ss} {
			if _, err := c.Commit(x.ctx, do(put(p, "x"))); err == nil {
				x.Errorf("%s.Commit of %.40q: no error", what, p)
			}
			if _, err := c.Commit(x.ctx, store.Txn{If: []store.Cond{{Path: p}}, Do: []store.Op{put("/ok", "x")}}); err == nil {
				x.Errorf("%s.Commit with a condition on %.40q: no error", what, p)
			}
		}
		if _, err := ss.Elect(x.ctx, p, nil); err == nil {
			x.Errorf("Elect at %.40q: no error", p)
		}
	}
	for _, p := range []string{"", "a/", "/a", "//", "/a//", "/../"} {
		if _, _, err := x.s.List(x.ctx, p); err == nil {
			x.Errorf("List %q: no error", p)
		}
	}
	if nodes, _, err := x.s.List(x.ctx, "/"); err != nil || len(nodes) != 0 {
		x.Errorf("bad paths left %v, error %v", nodes, err)
	}
}

// counters: read, add one, compare-and-set, from many sides at once.
func (x *suite) counters() {
	const clients, rounds, names = 8, 12, 3
	stores := []store.Store{x.s}
	if x.opts.Peer != nil {
		stores = append(stores, x.peer())
	}
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for c := range clients {
		s := stores[c%len(stores)]
		wg.Go(func() {
			for r := range rounds {
				if err := increment(x.ctx, s, fmt.Sprintf("/count/%d", (c+r)%names)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		x.Fatal(err)
	}
	nodes, _, err := x.s.List(x.ctx, "/count/")
	if err != nil {
		x.Fatal(err)
	}
	sum := 0
	for _, n := range nodes {
		v, err := strconv.Atoi(string(n.Value))
		if err != nil {
			x.Fatal(err)
		}
		sum += v
	}
	if sum != clients*rounds {
		x.Errorf("counters add up to %d, expected %d", sum, clients*rounds)
	}
}

func increment(ctx context.Context, s store.Store, path string) error {
	for {
		v := 0
		n, err := s.Get(ctx, path)
		if err == nil {
			if v, err = strconv.Atoi(string(n.Value)); err != nil {
				return err
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		_, err = s.Commit(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: n.Modified}}, Do: []store.Op{put(path, strconv.Itoa(v+1))}})
		if err == nil || !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func (x *suite) cancelled() {
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	_, err := x.s.Get(ctx, "/a")
	x.wantError("Get", err, context.Canceled)
	_, _, err = x.s.List(ctx, "/")
	x.wantError("List", err, context.Canceled)
	_, err = x.s.Commit(ctx, do(put("/a", "x")))
	x.wantError("Commit", err, context.Canceled)
	_, err = x.s.Session(ctx, x.opts.TTL)
	x.wantError("Session", err, context.Canceled)
	x.wantValue(x.s, "/a", "")
}

func (x *suite) closed() {
	ss := x.session(x.s)
	w := x.s.Watch(x.ctx, "/", 0)
	if err := x.s.Close(); err != nil {
		x.Fatalf("Close: %v", err)
	}
	if err := x.s.Close(); err != nil {
		x.Errorf("second Close: %v", err)
	}
	_, err := x.s.Get(x.ctx, "/a")
	x.wantError("Get", err, store.ErrClosed)
	_, _, err = x.s.List(x.ctx, "/")
	x.wantError("List", err, store.ErrClosed)
	_, err = x.s.Commit(x.ctx, do(put("/a", "x")))
	x.wantError("Commit", err, store.ErrClosed)
	_, err = x.s.Session(x.ctx, x.opts.TTL)
	x.wantError("Session", err, store.ErrClosed)
	for _, c := range []<-chan store.Batch{w, x.s.Watch(x.ctx, "/", 0)} {
		deadline := time.After(patience)
		for open := true; open; {
			select {
			case _, open = <-c:
			case <-deadline:
				x.Fatal("a watch goes on after Close")
			}
		}
	}
	select {
	case <-ss.Done():
	case <-time.After(patience):
		x.Error("a session goes on after Close")
	}
}

// unavailable: a dead engine is told as such, within the deadline of the call.
func (x *suite) unavailable() {
	if x.opts.SetAvailable == nil {
		x.Skip("the engine has no SetAvailable")
	}
	x.commit(x.s, do(put("/a", "1")))
	x.opts.SetAvailable(x.T, x.s, false)
	const limit = 1500 * time.Millisecond
	for what, call := range map[string]func(context.Context) error{
		"Get":     func(ctx context.Context) error { _, err := x.s.Get(ctx, "/a"); return err },
		"List":    func(ctx context.Context) error { _, _, err := x.s.List(ctx, "/"); return err },
		"Commit":  func(ctx context.Context) error { _, err := x.s.Commit(ctx, do(put("/b", "1"))); return err },
		"Session": func(ctx context.Context) error { _, err := x.s.Session(ctx, x.opts.TTL); return err },
	} {
		ctx, cancel := context.WithTimeout(x.ctx, limit)
		start := time.Now()
		err := call(ctx)
		cancel()
		x.wantError(what, err, store.ErrUnavailable)
		if took := time.Since(start); took > 2*limit {
			x.Errorf("%s took %s, expected at most %s", what, took, limit)
		}
	}
	x.opts.SetAvailable(x.T, x.s, true)
	deadline := time.Now().Add(patience)
	for {
		_, err := x.s.Commit(x.ctx, do(put("/a", "2")))
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			x.Fatalf("Commit when the engine is back: %v", err)
		}
	}
	x.wantValue(x.s, "/a", "2")
}
