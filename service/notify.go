package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// Notifier sends datagrams to the service manager as sd_notify(3) does.
type Notifier struct {
	socket   string
	watchdog time.Duration // zero: none asked for
}

// NotifierFrom reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID by getenv. Nil
// means that no service manager listens.
func NotifierFrom(getenv func(string) string) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if n.socket == "" {
		return nil
	}
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		// A value that is no number asks for no watchdog, as in sd_watchdog_enabled(3).
		if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && us < 1<<40 {
			n.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return n
}

// Send sends one state, such as READY=1.
func (n *Notifier) Send(state string) error {
	// A leading @ names an abstract socket, to net as to systemd.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
