package dnsload

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a worker whose flow is one end of a pair of sockets, and the other end.
func pair(t *testing.T) (w *worker, f *flow, other int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, f = scripted(t, "www.example.net")
	w.clock = clock{time.Now()}
	w.transport = &streams{target: netip.MustParseAddrPort("127.0.0.1:53"), timeout: time.Second}
	f.fd = fds[0]
	f.stream = stream{in: make([]byte, readBuffer), out: make([]byte, 0, writeBuffer)}
	t.Cleanup(func() {
		w.close()
		unix.Close(fds[1])
	})
	return w, f, fds[1]
}

// Messages come cut anywhere, and leave framed.
func TestStreamFraming(t *testing.T) {
	w, f, other := pair(t)
	sent := ask(w, f, 3, 0)
	n, err := w.transport.send(w, f, 3)
	if n != 3 || err != nil {
		t.Fatal(n, err)
	}
	var answers, want []byte
	for _, s := range sent {
		m := make([]byte, 512)
		m = m[:w.put(m, &s)]
		want = append(binary.BigEndian.AppendUint16(want, uint16(len(m))), m...)
		answers = append(binary.BigEndian.AppendUint16(answers, uint16(len(m))), answerTo(w, s)...)
	}
	got := make([]byte, 1000)
	if _, err := w.transport.receive(w, f); err != nil { // gives what waits to the kernel
		t.Fatal(err)
	}
	if n, err := unix.Read(other, got); err != nil || string(got[:n]) != string(want) {
		t.Fatalf("sent %x, %v, want %x", got[:n], err, want)
	}
	each := len(answers) / 3
	for i := range answers {
		if _, err := unix.Write(other, answers[i:i+1]); err != nil {
			t.Fatal(err)
		}
		some, err := w.transport.receive(w, f)
		if err != nil || !some || int(w.recent.Answered) != (i+1)/each {
			t.Fatalf("after octet %d: %d answers, %v, %v", i+1, w.recent.Answered, some, err)
		}
	}
	if w.recent.Malformed+w.recent.Unexpected != 0 || f.out != 0 {
		t.Errorf("counted %+v, %d outstanding", w.recent.Counts, f.out)
	}
}

// What the other end does not take stays until it does, and is bounded.
func TestStreamBound(t *testing.T) {
	w, f, _ := pair(t)
	const rounds = 40 // 89,600 octets
	queued := 0
	for range rounds {
		n := w.fill(f, batch, 0)
		k, err := w.transport.send(w, f, n)
		if err != nil {
			t.Fatal(err)
		}
		w.account(f, n, k, 0)
		queued += k
	}
	if queued >= rounds*batch || len(f.stream.out) > writeBuffer || f.out != queued || w.recent.Held == 0 {
		t.Errorf("%d queries queued in %d octets, %d outstanding, held %d times", queued, len(f.stream.out), f.out, w.recent.Held)
	}
}

// A connection that ends takes its queries with it at once.
func TestStreamEnds(t *testing.T) {
	w, f, other := pair(t)
	sent := ask(w, f, 3, 0)
	a := answerTo(w, sent[1])
	if _, err := unix.Write(other, append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(other, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	for f.fd >= 0 {
		if _, err := w.transport.receive(w, f); err != nil {
			t.Fatal(err)
		}
	}
	if w.recent.Answered != 1 || w.recent.Lost != 2 || f.out != 0 || w.out != 0 {
		t.Errorf("counted %+v, %d outstanding", w.recent.Counts, f.out)
	}
}
