package tap

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Config is where the sample goes and how much there is of it.
type Config struct {
	// Socket is the path of the unix socket of a collector that does the handshake
	// (bidirectional Frame Streams), such as fstrm_capture or dnstap -u; or
	// tcp://HOST:PORT of one on another machine, as dnstap -l. Nothing protects that way:
	// it belongs into a network of one's own.
	Socket string
	// File is the path of a file (unidirectional Frame Streams). What lies there is put
	// aside: it becomes File.1, that one File.2, and so on. Exactly one of Socket and File
	// is set.
	File string
	// FileSize is the octets, and FileAge the time, after which the file is put aside and
	// begun anew. FileSize zero means 256 MiB, NoSize no bound; FileAge zero means no bound.
	FileSize int64
	FileAge  time.Duration
	// FileKeep is how many files that were put aside are kept. Zero means 4, KeepNone none.
	FileKeep int
	// Every is of how many messages one is taken, in the mean. 1 takes all. Zero
	// means 64.
	Every int
	// Always are names of which nothing is left out: queries for names below them are all
	// taken, as they came (AUTH_QUERY), with the client subnet that a response may not repeat.
	Always []record.Name
	// AlwaysRate is how many queries for names of Always are taken in a second at most; more are
	// counted as lost, so that whoever makes names up in a flood takes no processor from answers.
	// Zero means 10,000, NoRate no bound.
	AlwaysRate int
	// Queue is how many messages wait at most, in slots of 4096 octets of memory each;
	// a longer message counts as many as it fills. Zero means 4096: 16 MiB.
	Queue int
	// Identity and Version are of this server, for the collector. Empty: left out.
	Identity, Version string
}

// No bound on a file's size; no file kept but the one that is written; no bound on queries of Always.
const (
	NoSize   = -1
	KeepNone = -1
	NoRate   = -1
)

// Of a Config whose fields are zero, and bounds.
const (
	defaultFileSize = 256 << 20
	defaultFileKeep = 4
	minFileSize     = 128 << 10 // a message of 65,535 octets has room
	minFileAge      = time.Second
	maxFileKeep     = 1000

	defaultEvery = 64
	defaultQueue = 4096
	// defaultAlwaysRate is 1,600 page loads that measure six names each, in a second, which is as much as a
	// beacon has room for by default. Each message costs some 7 µs: a fourteenth of a processor at most.
	defaultAlwaysRate = 10_000
	maxEvery          = 1_000_000_000
	minQueue          = 16      // one message of 65,535 octets
	maxQueue          = 1 << 18 // 1 GiB
	// maxSocket is the longest path of a unix socket: sun_path has 108 octets, the
	// last of which is zero (unix(7)).
	maxSocket = 107
	// maxText is ours: an identity is a host name, a version a line.
	maxText = 255
	// maxAlways is ours: each query is held against each of them.
	maxAlways = 16
	// tcpScheme begins a Socket that is not on this machine.
	tcpScheme = "tcp://"
)

// Validate tells what is wrong, in the words of the authority's options.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.Socket == "" && c.File == "":
		errs = append(errs, errors.New("dnstap-socket and dnstap-file: both are empty, expected one of them"))
	case c.Socket != "" && c.File != "":
		errs = append(errs, fmt.Errorf("dnstap-socket: %s conflicts with dnstap-file: %s, expected one of them", c.Socket, c.File))
	}
	if at, tcp := strings.CutPrefix(c.Socket, tcpScheme); tcp {
		if host, port, err := net.SplitHostPort(at); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("dnstap-socket: %.300q, expected the path of a unix socket, or for example tcp://192.0.2.1:6000", c.Socket))
		}
	} else if n := len(c.Socket); n > maxSocket {
		errs = append(errs, fmt.Errorf("dnstap-socket: a path of %d octets, expected at most %d", n, maxSocket))
	}
	if n := len(c.Always); n > maxAlways {
		errs = append(errs, fmt.Errorf("dnstap-always: %d names, expected at most %d", n, maxAlways))
	}
	if c.AlwaysRate < NoRate || c.AlwaysRate > maxEvery {
		errs = append(errs, fmt.Errorf("dnstap-always-rate: %d, expected 1 to %d, 0 for %d, or -1 for no bound", c.AlwaysRate, maxEvery, defaultAlwaysRate))
	}
	if c.Every < 0 || c.Every > maxEvery {
		errs = append(errs, fmt.Errorf("dnstap-every: %d, expected 0 to %d", c.Every, maxEvery))
	}
	if c.Queue != 0 && (c.Queue < minQueue || c.Queue > maxQueue) {
		errs = append(errs, fmt.Errorf("dnstap-queue: %d, expected 0 or %d to %d", c.Queue, minQueue, maxQueue))
	}
	if c.FileSize != 0 && c.FileSize != NoSize && c.FileSize < minFileSize {
		errs = append(errs, fmt.Errorf("dnstap-file-size: %d, expected %d or more, 0 for %d, or -1 for no bound", c.FileSize, minFileSize, defaultFileSize))
	}
	if c.FileAge != 0 && c.FileAge < minFileAge {
		errs = append(errs, fmt.Errorf("dnstap-file-age: %s, expected %s or more, or 0 for no bound", c.FileAge, minFileAge))
	}
	if c.FileKeep < KeepNone || c.FileKeep > maxFileKeep {
		errs = append(errs, fmt.Errorf("dnstap-file-keep: %d, expected 1 to %d, 0 for %d, or -1 for none", c.FileKeep, maxFileKeep, defaultFileKeep))
	}
	for _, f := range []struct{ name, value string }{{"dnstap-identity", c.Identity}, {"dnstap-version", c.Version}} {
		if n := len(f.value); n > maxText {
			errs = append(errs, fmt.Errorf("%s: %d octets, expected at most %d", f.name, n, maxText))
		}
	}
	return errors.Join(errs...)
}

func or[T int | int64](v, zero T) T {
	if v == 0 {
		return zero
	}
	return v
}
