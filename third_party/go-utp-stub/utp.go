// Package utp has the names that github.com/anacrolix/torrent takes from go-utp, without uTP.
package utp

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Default names the implementation.
const Default = "none"

// ErrNotBuiltIn is what every constructor returns.
var ErrNotBuiltIn = errors.New("uTP is not built in")

// Option is ignored.
type Option func()

// FirewallCallback tells whether a connection from an address is refused.
type FirewallCallback func(net.Addr) bool

// Socket is never made.
type Socket interface {
	net.PacketConn
	Accept() (net.Conn, error)
	Addr() net.Addr
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	SetFirewallCallback(FirewallCallback)
}

// WithLogger gives an Option.
func WithLogger(*slog.Logger) Option { return func() {} }

// NewSocket returns ErrNotBuiltIn.
func NewSocket(string, string, ...Option) (Socket, error) { return nil, ErrNotBuiltIn }

// NewSocketFromPacketConn returns ErrNotBuiltIn.
func NewSocketFromPacketConn(net.PacketConn, ...Option) (Socket, error) { return nil, ErrNotBuiltIn }
