package host

import (
	"context"
	"errors"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
)

// child is a part as a child of this process.
type child struct {
	cfg     Config
	program string
	d       *daemon.Daemon
}

func newChild(cfg Config, deps Deps, p Part) *child {
	return &child{cfg: cfg, program: deps.Program, d: daemon.New(daemon.Config{
		Path: deps.Program, Args: p.Args, PidFile: cfg.PidFile(p.Name), Leave: cfg.Leave, HandsOver: p.HandsOver,
		Out: deps.Out, Log: deps.Log.With("part", p.Name),
		Grace: 30 * time.Second, // a stage gives its tasks 10 s each
	})}
}

func (c *child) run(ctx context.Context) error { return c.d.Run(ctx) }

func (c *child) state(context.Context) (pid int, since time.Time, why string) {
	s, _ := c.d.State()
	return s.Pid, time.UnixMilli(s.Since), s.Ended
}

// hungGrace is short: what does not answer will hardly end by itself, and answers nobody
// while it is waited for.
const hungGrace = 3 * time.Second

func (c *child) restart(ctx context.Context) error { return c.d.Restart(ctx, hungGrace) }

func (c *child) replace(ctx context.Context, p Part) error {
	err := c.d.Replace(ctx, p.Args, c.cfg.ReplaceWithin)
	if errors.Is(err, daemon.ErrNotRunning) {
		return nil // its next start, which is due, is as p says
	}
	return err
}

func (c *child) next(p Part) { c.d.Next(p.Args) }

func (c *child) outdated(context.Context) bool {
	s, _ := c.d.State()
	return s.Adopted && s.Outdated(c.program)
}
