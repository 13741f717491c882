package trust

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// Statement says that a key is not to be believed any more. It is one line of text
// (docs/format/revocation.md):
//
//	zonecast-revocation-1 <public key> <retired|void> <unix milliseconds> <signature> <reason>
//
// Public key and signature are base64 (RFC 4648 §4). Signed is the line without the
// signature and the space before it.
type Statement struct {
	Key ed25519.PublicKey
	// Void says that also what the key signed before is void: it was in the wrong hands.
	Void   bool
	Time   time.Time // by the clock of who made it, to the millisecond
	Reason string    // printable, at most MaxReason octets; may be empty
	line   string    // as it was parsed
}

const (
	statementMagic = "zonecast-revocation-1"
	// MaxReason bounds Statement.Reason, and MaxStatement the line, in octets.
	MaxReason    = 200
	MaxStatement = 512
)

// ID is that of the key.
func (s Statement) ID() string { return snapshot.KeyID(s.Key) }

// Line is what was parsed.
func (s Statement) Line() string { return s.line }

// String is for people.
func (s Statement) String() string {
	what := "retired"
	if s.Void {
		what = "void"
	}
	text := fmt.Sprintf("%s since %s", what, s.Time.UTC().Format(time.RFC3339))
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// parts are the line before and behind the signature.
func (s Statement) parts() (before, behind string) {
	word := "retired"
	if s.Void {
		word = "void"
	}
	before = fmt.Sprintf("%s %s %s %d", statementMagic, base64.StdEncoding.EncodeToString(s.Key), word, s.Time.UnixMilli())
	if s.Reason != "" {
		behind = " " + s.Reason
	}
	return before, behind
}

// Sign gives the line by which a key revokes itself; Key is set to the key's own.
func (s Statement) Sign(key ed25519.PrivateKey) (string, error) {
	s.Key = key.Public().(ed25519.PublicKey)
	if err := checkReason(s.Reason); err != nil {
		return "", fmt.Errorf("revoke key %s: %w", s.ID(), err)
	}
	before, behind := s.parts()
	return before + " " + base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(before+behind))) + behind, nil
}

func checkReason(text string) error {
	if len(text) > MaxReason {
		return fmt.Errorf("reason has %d octets, at most %d", len(text), MaxReason)
	}
	if strings.TrimSpace(text) != text {
		return errors.New("reason begins or ends with a space")
	}
	for _, r := range text {
		if !strconv.IsPrint(r) {
			return fmt.Errorf("reason has the character %q, expected printable ones", r)
		}
	}
	return nil
}

// ParseStatement reads a line and checks its signature. It takes the form that Sign gives,
// and no other.
func ParseStatement(line string) (Statement, error) {
	var s Statement
	fail := func(format string, args ...any) (Statement, error) {
		return Statement{}, fmt.Errorf("revocation: %w", fmt.Errorf(format, args...))
	}
	if len(line) > MaxStatement {
		return fail("it has %d octets, at most %d", len(line), MaxStatement)
	}
	f := strings.SplitN(line, " ", 6)
	if len(f) < 5 || f[0] != statementMagic {
		return fail("it begins with %.40q, expected %q, a public key, retired or void, a time, a signature and a reason", line, statementMagic)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(f[1])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return fail("the public key is %.60q, expected base64 of %d octets", f[1], ed25519.PublicKeySize)
	}
	ms, err := strconv.ParseInt(f[3], 10, 64)
	if err != nil {
		return fail("the time is %.40q, expected unix milliseconds", f[3])
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(f[4])
	if err != nil {
		return fail("signature: %w", err)
	}
	s = Statement{Key: key, Void: f[2] == "void", Time: time.UnixMilli(ms)}
	if len(f) == 6 {
		s.Reason = f[5]
	}
	if err := checkReason(s.Reason); err != nil {
		return fail("%w", err)
	}
	before, behind := s.parts()
	if before+" "+f[4]+behind != line {
		return fail("it is not in its one form: %q, expected %q", line, before+" "+f[4]+behind)
	}
	if !ed25519.Verify(s.Key, []byte(before+behind), signature) {
		return fail("the signature of key %s does not hold: a key is revoked by itself alone", s.ID())
	}
	s.line = line
	return s, nil
}
