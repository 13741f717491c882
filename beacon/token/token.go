package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// A token is 25 octets, as 40 characters of base32 with the extended hex alphabet in lower case
// (RFC 4648 §7), without padding:
//
//	0    1   key: its number
//	1    8   ID, random
//	9    4   Unix seconds, u32, big endian
//	13   12  the first 96 bits of HMAC-SHA-256 with the key over what follows: context, and the
//	         13 octets before (RFC 2104 §5: not less than 80 bits)
const (
	rawSize  = 25
	macAt    = 13
	context  = "zonecast beacon 1\x00"
	alphabet = "0123456789abcdefghijklmnopqrstuv"
)

// Size is how many characters a token has.
const Size = (rawSize*8 + 4) / 5

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// Token is what a token says.
type Token struct {
	ID   uint64
	Time time.Time // in seconds
}

// What is wrong with a token. Errors of Verify are one of these.
var (
	ErrMalformed = errors.New("no token: expected 40 characters of 0-9 and a-v")
	ErrForged    = errors.New("token was made with another key, or changed")
	ErrExpired   = errors.New("token is too old")
	ErrFuture    = errors.New("token is from the future: clocks differ")
)

// Lifetime says how long tokens are good.
type Lifetime struct {
	// Life is how long after it was made a token is good.
	Life time.Duration
	// Skew is how far clocks of servers that share keys may be apart.
	Skew time.Duration
}

// Issue makes a token with a random ID.
func (k *Keys) Issue(now time.Time) (string, Token) {
	var id [8]byte
	rand.Read(id[:]) // never fails: it ends the process when there is no entropy
	t := Token{ID: binary.BigEndian.Uint64(id[:]), Time: time.Unix(now.Unix(), 0)}
	return k.make(t), t
}

func (k *Keys) make(t Token) string {
	var raw [rawSize]byte
	raw[0] = k.active.number
	binary.BigEndian.PutUint64(raw[1:], t.ID)
	binary.BigEndian.PutUint32(raw[9:], uint32(min(max(t.Time.Unix(), 0), math.MaxUint32)))
	k.active.mac(raw[:macAt], raw[macAt:])
	return encoding.EncodeToString(raw[:])
}

// Verify reads a token.
func (k *Keys) Verify(label []byte, now time.Time, life Lifetime) (Token, error) {
	if len(label) != Size {
		return Token{}, ErrMalformed
	}
	var text [Size]byte
	for i, c := range label {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		text[i] = c
	}
	var raw [rawSize]byte
	if n, err := encoding.Decode(raw[:], text[:]); err != nil || n != rawSize {
		return Token{}, ErrMalformed
	}
	key := k.byNumber[raw[0]]
	if key == nil {
		return Token{}, ErrForged
	}
	var want [rawSize - macAt]byte
	key.mac(raw[:macAt], want[:])
	if subtle.ConstantTimeCompare(want[:], raw[macAt:]) != 1 {
		return Token{}, ErrForged
	}
	t := Token{ID: binary.BigEndian.Uint64(raw[1:]), Time: time.Unix(int64(binary.BigEndian.Uint32(raw[9:])), 0)}
	switch age := now.Sub(t.Time); {
	case age > life.Life+life.Skew:
		return t, ErrExpired
	case age < -life.Skew:
		return t, ErrFuture
	}
	return t, nil
}

// key is one secret.
type key struct {
	number uint8
	secret []byte
}

// mac writes the first octets of the authenticator of said.
func (k *key) mac(said, to []byte) {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(context))
	h.Write(said)
	copy(to, h.Sum(nil))
}

// ClientHash is a hash of octets for rtt.Clients: the same on all servers with the same active
// key, and foreseen by nobody else.
func (k *Keys) ClientHash(octets []byte) uint64 {
	h := hmac.New(sha256.New, k.active.secret)
	h.Write([]byte("zonecast client\x00"))
	h.Write(octets)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// Keys are those a server accepts; tokens are made with the active one, the first. They do not
// change: a server swaps them whole.
//
// To change the key, on all servers that share them before the next step on any:
//
//	1             2 is not known
//	1, 2          2 is accepted
//	2, 1          2 is active
//	2             after the life of a token
type Keys struct {
	active   *key
	byNumber [256]*key
}

func (k *Keys) add(n uint8, secret []byte) error {
	if k.byNumber[n] != nil {
		return fmt.Errorf("key %d is there twice", n)
	}
	k.byNumber[n] = &key{n, secret}
	if k.active == nil {
		k.active = k.byNumber[n]
	}
	return nil
}

// Random is one key that nobody else has: tokens are good at this server alone, until it ends.
func Random() *Keys {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	k := &Keys{}
	_ = k.add(0, secret) // the first of its number
	return k
}
