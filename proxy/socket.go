package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// Listen makes the socket. It appears at its path with its permissions, in place of one
// that nobody listens on; a live one is an error.
func Listen(cfg Config) (ln net.Listener, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("listen on %s: %w", cfg.Socket, err)
		}
	}()
	gid := -1
	if cfg.Group != "" {
		if gid, err = groupID(cfg.Group); err != nil {
			return nil, err
		}
	}
	dir := filepath.Dir(cfg.Socket)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(cfg.Socket); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, errors.New("there is something that is no socket")
		}
		if c, err := net.DialTimeout("unix", cfg.Socket, time.Second); err == nil {
			return nil, errors.Join(errors.New("another process listens there"), c.Close())
		}
	}
	// Nobody may connect before the permissions are what they should be.
	private, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(private)) }()
	made := filepath.Join(private, "s")
	if len(made) > maxSocket {
		return nil, fmt.Errorf("the directory's path has %d octets, expected at most %d", len(dir), len(dir)-len(made)+maxSocket)
	}
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	u.SetUnlinkOnClose(false)
	err = os.Chmod(made, fs.FileMode(cfg.Mode))
	if err == nil && gid >= 0 {
		err = os.Chown(made, -1, gid)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, cfg.Socket)
	}
	if err != nil {
		return nil, errors.Join(err, u.Close(), os.Remove(made))
	}
	return &socket{u, cfg.Socket, info}, nil
}

// socket removes its path when it is closed, unless another has taken it.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Close implements net.Listener.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
		return errors.Join(os.Remove(s.path), s.UnixListener.Close())
	}
	return s.UnixListener.Close()
}

// Addr is the path that was asked for.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

func groupID(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}
