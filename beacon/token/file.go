package token

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Bounds of a file of keys. A secret has at least 128 bits, which is also what is
// left of an HMAC's strength when a shorter one is taken (RFC 2104 §3), and at most the block
// of SHA-256: a longer one would be hashed first.
const (
	maxFile   = 1 << 16
	minSecret = 16
	maxSecret = 64
)

// Load reads a file of keys as Parse does. It refuses one that everybody on the host may
// read or write.
func Load(path string) (*Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read beacon keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read beacon keys: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("read beacon keys: %s has mode %#o, open to everybody; expected 0600 or 0640: chmod o= %[1]s", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read beacon keys: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read beacon keys: %s has more than %d octets, expected a line a key", path, maxFile)
	}
	return Parse(b, path)
}

// Parse reads keys, one a line, the active one first: a number from 0 to 255 and a secret of 32 to
// 128 hexadecimal digits. Empty lines and those that begin with # are left out. source is
// for errors, which never tell what a line says.
func Parse(text []byte, source string) (*Keys, error) {
	k := &Keys{}
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		fields := bytes.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("%s:%d: %d fields, expected a number and the hexadecimal digits of a secret", source, i+1, len(fields))
		}
		n, err := strconv.ParseUint(string(fields[0]), 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: the first field is no number from 0 to 255", source, i+1)
		}
		secret := make([]byte, hex.DecodedLen(len(fields[1])))
		if _, err := hex.Decode(secret, fields[1]); err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, fmt.Errorf("%s:%d: the second field has %d characters, expected %d to %d hexadecimal digits", source, i+1, len(fields[1]), 2*minSecret, 2*maxSecret)
		}
		if err := k.add(uint8(n), secret); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", source, i+1, err)
		}
	}
	if k.active == nil {
		return nil, fmt.Errorf("%s: no key, expected a line such as of: echo 1 $(openssl rand -hex 32)", source)
	}
	return k, nil
}
