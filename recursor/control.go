package recursor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"
)

const (
	// commandTime bounds a command: a walk through a cache of some GiB takes seconds.
	commandTime = 30 * time.Second
	// maxReply bounds what comes back, in octets; statistics have about 8 KiB.
	maxReply = 1 << 20
)

// errUnreachable is wrapped when Unbound could not be spoken to; what it was to do is
// then still to be done.
var errUnreachable = errors.New("unbound's remote control cannot be reached")

// refusal is what Unbound says about a command that it does not take.
type refusal struct{ command, said string }

func (e *refusal) Error() string { return fmt.Sprintf("unbound refuses %q: %s", e.command, e.said) }

// control gives commands to Unbound's remote control.
type control interface {
	do(ctx context.Context, command string) (reply string, err error)
}

// socketControl speaks the protocol of unbound-control over a unix socket: a connection
// for each command, without TLS (control-use-cert: no):
//
//	to it    "UBCT1 " command "\n"
//	back     text until the end of the connection; an error begins with "error"
type socketControl struct{ path string }

func (s socketControl) do(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // a unix socket has deadlines
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	if _, err := c.Write([]byte("UBCT1 " + command + "\n")); err != nil {
		return "", fmt.Errorf("%w: %w", errUnreachable, err)
	}
	b, err := io.ReadAll(io.LimitReader(c, maxReply))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return judge(command, b)
}

// programControl runs unbound-control: for an Unbound whose remote control wants TLS.
type programControl struct{ path, config string }

func (p programControl) do(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, append([]string{"-c", p.config}, strings.Fields(command)...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if out.Len() == 0 && err != nil {
		return "", fmt.Errorf("%w: %w: %s", errUnreachable, err, clip(errs.String()))
	}
	return judge(command, out.Bytes())
}

func judge(command string, reply []byte) (string, error) {
	text := string(reply)
	switch {
	case text == "":
		// It ended, or closed the connection of somebody who may not.
		return "", fmt.Errorf("%w: the connection was closed without an answer to %q", errUnreachable, command)
	case strings.HasPrefix(text, "error"):
		return "", &refusal{command, clip(text)}
	}
	return text, nil
}

// clip is what others said, short enough for a line.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 300)]
}
