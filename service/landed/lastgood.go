package landed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
)

// A subscriber's last good value is a file of its own directory, called "landed-" and the
// first 16 digits of the path's SHA-256: a line of JSON about the value, then the value.
type lastGood struct {
	Path      string `json:"path"`
	Type      string `json:"type"`
	Revision  string `json:"revision"`
	Version   uint64 `json:"version"`
	Confirmed int64  `json:"confirmed_ms"` // unix milliseconds; 0: not known
	SHA256    string `json:"sha256"`       // of the value
}

// maxLine is the longest line about a value.
const maxLine = 4 << 10

func lastGoodFile(dir, path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(dir, "landed-"+hex.EncodeToString(sum[:8]))
}

func encodeLastGood(v Value) []byte {
	sum := sha256.Sum256(v.JSON)
	l := lastGood{v.Path, v.Type, v.Revision, v.Version, 0, hex.EncodeToString(sum[:])}
	if !v.Confirmed.IsZero() {
		l.Confirmed = v.Confirmed.UnixMilli()
	}
	b, err := json.Marshal(l)
	if err != nil {
		panic(err) // our own type: cannot fail
	}
	return append(append(b, '\n'), v.JSON...)
}

func decodeLastGood(path string, b []byte) (Value, error) {
	line, value, ok := bytes.Cut(b, []byte{'\n'})
	if !ok || len(line) > maxLine {
		return Value{}, errors.New("does not begin with a line about the value")
	}
	var l lastGood
	if err := json.Unmarshal(line, &l); err != nil {
		return Value{}, err
	}
	sum := sha256.Sum256(value)
	switch {
	case l.Path != path:
		return Value{}, fmt.Errorf("is of configuration %.80q, expected %s", l.Path, path)
	case l.SHA256 != hex.EncodeToString(sum[:]):
		return Value{}, fmt.Errorf("sha256 of the value is %x, the line says %.16q", sum[:8], l.SHA256)
	case !json.Valid(value):
		return Value{}, errors.New("value is not JSON")
	}
	v := Value{Path: path, Type: l.Type, Revision: l.Revision, Version: l.Version, JSON: value}
	if l.Confirmed > 0 {
		v.Confirmed = time.UnixMilli(l.Confirmed)
	}
	return v, nil
}

func saveLastGood(dir string, v Value) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(lastGoodFile(dir, v.Path), 0o644, encodeLastGood(v))
}

func loadLastGood(dir, path string) (v Value, err error) {
	file := lastGoodFile(dir, path)
	f, err := os.Open(file)
	if err != nil {
		return Value{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxValue+maxLine+1))
	if err == nil {
		v, err = decodeLastGood(path, b)
	}
	if err != nil {
		return Value{}, fmt.Errorf("read %s: %w", file, err)
	}
	return v, nil
}
