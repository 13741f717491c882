package trial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
)

// The agent hands a trial to the authority in a file beside the journal, never in it: a line
// with the format, the signed offer in one line, and the delta. As long as the agent knows that
// the trial is on it gives the file a new time of modification every Confirm; an authority that
// sees none for Lease, or none since it began, answers without the trial.

const fileMagic = "zonecast trial 1\n"

// Path is where the file of the host with a journal lies.
func Path(journal string) string { return journal + ".trial" }

// Write replaces the file.
func Write(path string, offer, delta []byte) error {
	return atomicfile.Write(path, 0o644, bytes.Join([][]byte{[]byte(fileMagic), offer, []byte("\n"), delta}, nil))
}

// Read gives what Write wrote. Neither is checked.
func Read(path string) (offer, delta []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxDelta+MaxOffer+int64(len(fileMagic))+2))
	if err != nil {
		return nil, nil, fmt.Errorf("read trial %s: %w", path, err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(fileMagic))
	if !ok {
		return nil, nil, fmt.Errorf("read trial %s: it begins with %.20q, expected %q", path, b, fileMagic)
	}
	offer, delta, ok = bytes.Cut(rest, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("read trial %s: %w", path, errors.New("it ends in the offer"))
	}
	return offer, delta, nil
}

// Lease is how long an authority goes on with a trial that nobody confirms: some times what it
// takes an agent to ask the store.
const Lease = 15 * time.Second
