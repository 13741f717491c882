package site_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/proxied"
)

// certificate makes one for 127.0.0.1 that signs itself, as files and for a client.
func certificate(t *testing.T, dir, name string) (cert, key string, pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return cert, key, pair, pool
}

// TestTLS: an agent reaches a proxy that it knows, with a certificate that the proxy asks for;
// without, or with a proxy that it does not know, it does not.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, _, pool := certificate(t, dir, "proxy")
	clientCert, _, pair, _ := certificate(t, dir, "agent")
	_, _, stranger, strange := certificate(t, dir, "stranger")
	up := memstore.New()
	t.Cleanup(func() { up.Close() })
	cfg := config(dir)
	cfg.Listen, cfg.Cert, cfg.Key, cfg.ClientCA = "127.0.0.1:0", cert, key, clientCert
	s, _ := run(t, cfg, site.Deps{Store: up, Tree: whole(true)})
	for name, c := range map[string]struct {
		tls  *tls.Config
		fine bool
	}{
		"right":                 {&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, true},
		"no certificate":        {&tls.Config{RootCAs: pool}, false},
		"another's certificate": {&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{stranger}}, false},
		"a proxy not known":     {&tls.Config{RootCAs: strange, Certificates: []tls.Certificate{pair}}, false},
		"in the clear":          {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.tls != nil {
				c.tls.ServerName = "localhost"
			}
			p, err := proxied.Open(t.Context(), proxied.Config{Endpoints: []string{s.Addr().String()}, TLS: c.tls})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if !c.fine {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			_, err = p.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/a"}}})
			if (err == nil) != c.fine || err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("error is %v, expected it to work: %t", err, c.fine)
			}
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}
