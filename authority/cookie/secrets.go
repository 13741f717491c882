package cookie

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Secret is the key of the hash: whoever has it can make cookies for any client.
type Secret [16]byte

// key is a Secret as SipHash takes it.
type key struct{ k0, k1 uint64 }

func newKey(s Secret) key {
	return key{binary.LittleEndian.Uint64(s[:8]), binary.LittleEndian.Uint64(s[8:])}
}

// most is how many secrets are accepted at a time: a rollover needs two
// (RFC 9018 §5), and each one more is a hash more for every forged cookie.
const most = 2

// Secrets are those a server accepts; cookies are made with the first, the active
// one. It does not change: a server swaps it whole.
//
// To roll over, on all servers of a fleet before the next step on any (RFC 9018 §5):
//
//	A      B is not known
//	A, B   B is staged: servers that are a step ahead are understood
//	B, A   B is active; cookies of A are accepted and replaced
//	B      an hour later: no cookie of A is young enough any more
type Secrets struct {
	accepted [most]key
	count    int
}

// New takes the active secret and at most one more, which is only accepted.
func New(active Secret, also ...Secret) (*Secrets, error) {
	if n := 1 + len(also); n > most {
		return nil, fmt.Errorf("take cookie secrets: %d found, expected 1 or 2: the active one, and the staged or the retired one", n)
	}
	s := &Secrets{count: 1}
	s.accepted[0] = newKey(active)
	for _, a := range also {
		if a == active {
			return nil, errors.New("take cookie secrets: the second is equal to the first, expected another one or none")
		}
		s.accepted[s.count] = newKey(a)
		s.count++
	}
	return s, nil
}

// Random makes a secret that nobody else has: cookies are good at this server alone,
// until it ends.
func Random() *Secrets {
	var secret Secret
	rand.Read(secret[:]) // never fails: it ends the process when there is no entropy
	return &Secrets{accepted: [most]key{newKey(secret)}, count: 1}
}

// maxFile is the largest file of secrets, in octets: two lines and a screenful of
// comments.
const maxFile = 1 << 16

// Load reads a file of secrets as Parse does. It refuses one that everybody on the
// host may read or write.
func Load(path string) (*Secrets, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("read cookie secrets: %s has mode %#o, open to everybody; expected 0600 or 0640: chmod o= %[1]s", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read cookie secrets: %s has more than %d octets, expected one or two lines of 32 hexadecimal digits", path, maxFile)
	}
	return Parse(b, path)
}

// Parse reads secrets as 32 hexadecimal digits a line, the active one first. Empty
// lines and those that begin with # are left out. source is for errors, which never
// tell what a line says.
func Parse(text []byte, source string) (*Secrets, error) {
	var found []Secret
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if len(line) != hex.EncodedLen(len(Secret{})) {
			return nil, fmt.Errorf("%s:%d: %d characters, expected the 32 hexadecimal digits of a cookie secret", source, i+1, len(line))
		}
		var s Secret
		if _, err := hex.Decode(s[:], line); err != nil {
			return nil, fmt.Errorf("%s:%d: a character is no hexadecimal digit, expected the 32 of a cookie secret", source, i+1)
		}
		found = append(found, s)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no cookie secret, expected a line of 32 hexadecimal digits, such as of: openssl rand -hex 16", source)
	}
	s, err := New(found[0], found[1:]...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return s, nil
}
