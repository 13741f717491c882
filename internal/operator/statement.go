package operator

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxSigned bounds a signed statement, in octets.
const MaxSigned = 128 << 10

// Skew is how far the clock of who signs may be from the one of who verifies, either way.
const Skew = 5 * time.Minute

// domain is before what is signed, so that no signature for something else fits.
const domain = "zonecast operator statement 1\x00"

// Args are what is done, in words of JSON. Equal arguments are equal octets.
type Args map[string]any

// Statement says who does what.
type Statement struct {
	Operator string          `json:"operator"`
	Action   string          `json:"action"`
	Dataset  string          `json:"dataset"`
	Args     json.RawMessage `json:"args"`
	Time     int64           `json:"time_ms"` // unix milliseconds
	Nonce    string          `json:"nonce"`   // so that no two are equal
}

// At is when it was signed.
func (s Statement) At() time.Time { return time.UnixMilli(s.Time) }

// Is tells whether the statement is of an action with these arguments.
func (s Statement) Is(action, dataset string, args Args) error {
	want, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	switch {
	case s.Action != action:
		return fmt.Errorf("%s signed %q, not %q", s.Operator, s.Action, action)
	case s.Dataset != dataset:
		return fmt.Errorf("%s signed for dataset %q, not %q", s.Operator, s.Dataset, dataset)
	case !bytes.Equal(s.Args, want):
		return fmt.Errorf("%s signed %s with %.300s, not with %.300s", s.Operator, s.Action, s.Args, want)
	}
	return nil
}

// Sign makes a signed statement: the signature, and then the statement as JSON.
func Sign(key ed25519.PrivateKey, name, action, dataset string, args Args, now time.Time) ([]byte, error) {
	encoded, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", action, err)
	}
	var nonce [12]byte
	rand.Read(nonce[:]) // does not fail
	text, err := json.Marshal(Statement{name, action, dataset, encoded, now.UnixMilli(), hex.EncodeToString(nonce[:])})
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", action, err)
	}
	signed := append(ed25519.Sign(key, append([]byte(domain), text...)), text...)
	if len(signed) > MaxSigned {
		return nil, fmt.Errorf("sign %s: the statement has %d octets, at most %d", action, len(signed), MaxSigned)
	}
	return signed, nil
}

// textDomain is before texts that are signed: a signature of a text fits no statement.
const textDomain = "zonecast operator text 1\x00"

// SignText signs a text of many lines that whoever verifies it makes anew.
func SignText(key ed25519.PrivateKey, text []byte) []byte {
	return ed25519.Sign(key, append([]byte(textDomain), text...))
}

// VerifyText tells why a text was not signed by an operator who has a right; nil: it was.
// What the text says, and how old it is, is for the caller to judge.
func (o *Operators) VerifyText(name, right string, text, signature []byte) error {
	key, known := o.keys[name]
	switch {
	case len(signature) == 0:
		return errors.New("is missing, and only operators may act here")
	case !known:
		return fmt.Errorf("operator %.80q is not known here", name)
	case !ed25519.Verify(key, append([]byte(textDomain), text...), signature):
		return fmt.Errorf("is not that of operator %s: another key, or something else was signed", name)
	case !o.May(name, right):
		return fmt.Errorf("%s lacks the right %q", name, right)
	}
	return nil
}

// Verify gives the statement that was signed, and its id. now is for its age; the zero
// time means that any will do.
func (o *Operators) Verify(signed []byte, now time.Time) (s Statement, id string, err error) {
	if len(signed) <= ed25519.SignatureSize || len(signed) > MaxSigned {
		return s, "", fmt.Errorf("statement has %d octets, expected %d to %d", len(signed), ed25519.SignatureSize+1, MaxSigned)
	}
	signature, text := signed[:ed25519.SignatureSize], signed[ed25519.SignatureSize:]
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Statement{}, "", fmt.Errorf("statement: %w", err)
	}
	key, known := o.keys[s.Operator]
	if !known {
		return Statement{}, "", fmt.Errorf("operator %.80q is not known here", s.Operator)
	}
	if !ed25519.Verify(key, append([]byte(domain), text...), signature) {
		return Statement{}, "", fmt.Errorf("signature is not that of operator %s: another key, or the statement was altered", s.Operator)
	}
	if !now.IsZero() {
		if age := now.Sub(s.At()); age > Skew || age < -Skew {
			return Statement{}, "", fmt.Errorf("%s was signed by %s at %s, and here it is %s: more than %v apart; sign it again, or look at the clocks",
				s.Action, s.Operator, s.At().UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), Skew)
		}
	}
	sum := sha256.Sum256(text)
	return s, hex.EncodeToString(sum[:8]), nil
}
