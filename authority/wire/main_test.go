package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

// TestMain is also a server that echoes, for tests that need processes and for
// measurements: WIRE_LISTEN has its address, WIRE_HANDOVER the path of its socket and
// WIRE_WORKERS their number; with WIRE_UNREADY it never gets ready.
func TestMain(m *testing.M) {
	if a := os.Getenv("WIRE_LISTEN"); a != "" {
		if err := serveEcho(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func serveEcho(a string) error {
	addr, err := netip.ParseAddrPort(a)
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(os.Getenv("WIRE_WORKERS"))
	if err != nil {
		return err
	}
	c := Config{Listen: []netip.AddrPort{addr}, UDPWorkers: workers, HandOver: os.Getenv("WIRE_HANDOVER"), MaxTCP: 1 << 20, MaxTCPPerClient: 1 << 20, TCPIdle: time.Hour}
	if os.Getenv("WIRE_UNREADY") != "" {
		c.Ready = make(chan struct{})
	}
	s, err := Listen(c, reflect, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fmt.Println(s.Addrs()[0])
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	if err := s.Run(ctx); !errors.Is(err, ErrHandedOver) {
		return err
	}
	return nil
}

// reflector gives each query back as a response, as little work as there can be.
type reflector struct{}

func (reflector) Answer(batch []Message, _ protocol.Transport) {
	for i := range batch {
		m := &batch[i]
		m.Response = append(m.Response, m.Query...)
		if len(m.Response) > 2 {
			m.Response[2] |= 0x80 // QR
		}
	}
}

func reflect() (Handler, func()) { return reflector{}, func() {} }
