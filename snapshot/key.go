package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile bounds what is read of a key file, in octets: hundreds of keys.
const maxKeyFile = 64 << 10

// Types of the PEM blocks.
const (
	pemPrivate = "PRIVATE KEY" // PKCS #8, RFC 5958
	pemPublic  = "PUBLIC KEY"  // SubjectPublicKeyInfo, RFC 8410
)

// KeyID names a public key: the first 8 octets of its SHA-256 in hexadecimal.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// LoadPrivateKey reads a PEM file with one PKCS #8 ed25519 private key. A file
// that others than its owner can read or write is refused.
func LoadPrivateKey(path string) (ed25519.PrivateKey, error) {
	key, err := loadPrivateKey(path)
	if err != nil {
		return nil, fmt.Errorf("read private key %s: %w", path, err)
	}
	return key, nil
}

func loadPrivateKey(path string) (ed25519.PrivateKey, error) {
	text, mode, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	if mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("its mode is %04o, expected 0600: others can use it", mode.Perm())
	}
	b, rest := pem.Decode(text)
	if b == nil || b.Type != pemPrivate {
		return nil, fmt.Errorf("it has no PEM block %q", pemPrivate)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("it has a second PEM block %q, expected one key", next.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, expected ed25519", parsed)
	}
	return key, nil
}

// LoadPublicKeys reads a PEM file with one or more ed25519 public keys (PKIX).
func LoadPublicKeys(path string) ([]ed25519.PublicKey, error) {
	keys, err := loadPublicKeys(path)
	if err != nil {
		return nil, fmt.Errorf("read public keys %s: %w", path, err)
	}
	return keys, nil
}

func loadPublicKeys(path string) ([]ed25519.PublicKey, error) {
	text, _, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	var keys []ed25519.PublicKey
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != pemPublic {
			return nil, fmt.Errorf("PEM block %d is %q, expected %q", len(keys)+1, b.Type, pemPublic)
		}
		parsed, err := x509.ParsePKIXPublicKey(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %d is a %T, expected ed25519", len(keys)+1, parsed)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it has no PEM block %q", pemPublic)
	}
	if begun != len(keys) { // encoding/pem passes over what it cannot read
		return nil, fmt.Errorf("%d of its %d PEM blocks cannot be read: is it damaged, or cut off?", begun-len(keys), begun)
	}
	return keys, nil
}

func readKeyFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it has more than %d octets", maxKeyFile)
	}
	return text, info.Mode(), err
}

// LoadOrCreateKey reads the private key at path. Where there is none it makes one,
// in a directory that it makes as well, and path + ".pub" beside it, both
// atomically: two processes that start at once end up with the same key.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	key, err := LoadPrivateKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(path)
	}
	if err != nil {
		return nil, err
	}
	public, err := EncodePublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("encode public key of %s: %w", path, err)
	}
	err = createFile(path+".pub", 0o644, public)
	if err == nil {
		return key, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	published, err := LoadPublicKeys(path + ".pub")
	if err != nil {
		return nil, err
	}
	for _, p := range published {
		if p.Equal(key.Public()) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("public key file %s.pub does not have the key of %s: remove it and it is written anew", path, path)
}

// EncodePublicKey is a key as it stands in a file of public keys.
func EncodePublicKey(key ed25519.PublicKey) ([]byte, error) {
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: b}), nil
}

func createKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make private key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of private key: %w", err)
	}
	err = createFile(path, 0o600, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: private}))
	if errors.Is(err, fs.ErrExist) {
		return LoadPrivateKey(path) // somebody was faster: theirs is the key
	}
	if err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	return key, nil
}

// createFile writes a file that appears whole or not at all, and never over
// another one: a link, unlike a rename, fails when the name is taken.
func createFile(path string, mode fs.FileMode, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
