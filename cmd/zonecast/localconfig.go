package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/proxy"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/service/landed"
)

// proxyStage serves configurations to the programs of this machine, and the store to the agents
// of its site.
type proxyStage struct {
	proxy.Config
	site site.Config
}

func (s *proxyStage) declare(cmd *cobra.Command) {
	s.Config, s.site = proxy.DefaultConfig(), site.DefaultConfig()
	declare(cmd, "proxy", &s.Config)
	declare(cmd, "proxy-agents", &s.site)
}

func (s *proxyStage) add(n *node) error {
	ln, err := proxy.Listen(s.Config)
	if err != nil {
		return hinted{err, "--proxy-socket names a path in a directory that can be written; one that another proxy has is free when that one is stopped"}
	}
	p, err := proxy.New(s.Config, proxy.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	// The proxy stops before the socket does: who waits is answered first.
	n.svc.Add(service.HTTP("local api", ln, p.Handler(), n.log))
	n.add("proxy", p.Run)
	n.warn("proxy", func() []string {
		s := p.Status()
		return append([]string{s.Store, s.Cache, s.Anew}, s.Problems...)
	})
	if s.site.Listen == "" {
		return nil
	}
	agents, err := site.New(s.site, site.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Fetcher: n.fetcher})
	var in *net.OpError
	switch {
	case errors.As(err, &in) && in.Op == "listen":
		return inTheWay("--proxy-agents-listen", s.site.Listen, err)
	case err != nil:
		return err
	}
	n.add("agents of the site", agents.Run)
	n.warn("agents of the site", agents.Troubles)
	return nil
}

// landedOptions say where a stage has settings from that may change while it runs.
type landedOptions struct {
	From   string `option:"config-from" help:"path of a landed configuration with options that may change while this runs; they go before the file and after variables. Empty: none"`
	Socket string `option:"config-socket" help:"unix socket of this machine's proxy of configurations"`
	Cache  string `option:"config-cache" help:"directory for the last good one, for a start without a proxy; empty: none"`
}

func newLandedOptions() landedOptions { return landedOptions{Socket: landed.DefaultSocket} }

// Validate implements the kit's check.
func (o *landedOptions) Validate() error {
	if o.From == "" {
		return nil
	}
	if err := configtree.CheckPath(o.From); err != nil {
		return service.Invalid("config-from", "a path such as zonecast/presenter")
	}
	return nil
}

// followLanded gives cfg, which is of cmd, with what lands to set, now and whenever that changes;
// set may refuse it. The tasks after it start when the first was given, or is not to be had.
func followLanded[T any](n *node, o landedOptions, cmd *cobra.Command, cfg *T, set func(T) error) error {
	if o.From == "" {
		return nil
	}
	client := landed.NewClient(o.Socket)
	n.closers = append(n.closers, func() error { client.Close(); return nil })
	sub, err := landed.Subscribe(landed.Options[json.RawMessage]{
		Client: client, Path: o.From, Cache: o.Cache, Log: n.log,
		Decode: func(b []byte) (json.RawMessage, error) { return b, nil },
		Apply: func(value json.RawMessage, _ landed.Value) error {
			now, kept, err := service.Overlay(cmd, cfg, value)
			if err != nil {
				return err
			}
			if len(kept) > 0 {
				n.log.Info("landed options are not used, a flag or a variable goes before", "options", strings.Join(kept, ", "))
			}
			return set(now)
		},
	})
	if err != nil {
		return err
	}
	const first = 45 * time.Second // longer than the client waits for an answer
	n.svc.Add(service.Task{
		Name: "landed options", WaitReady: first,
		Detail: func() string { return sub.Status().String() },
		Run: func(ctx context.Context) error {
			go func() { // ends with Run's first question, or with ctx
				select {
				case <-sub.Tried():
					service.Ready(ctx)
				case <-ctx.Done():
				}
			}()
			return sub.Run(ctx)
		},
	})
	n.warn("landed options", func() []string { return []string{sub.Status().Problem} })
	return nil
}

// localOptions are those of commands that ask this machine's proxy.
type localOptions struct {
	Socket  string        `option:"config-socket" help:"unix socket of this machine's proxy of configurations"`
	JSON    bool          `option:"json" help:"print JSON and nothing else"`
	Timeout time.Duration `option:"timeout" help:"how long the command may take"`
}

// Validate implements the kit's check.
func (o *localOptions) Validate() error {
	if o.Timeout <= 0 {
		return service.Invalid("timeout", "more than 0")
	}
	return nil
}

// localCommand makes a command whose body asks this machine's proxy.
func localCommand(use, short, long string, args cobra.PositionalArgs, body func(ctx context.Context, o *localOptions, c *landed.Client, cmd *cobra.Command, args []string) error) *cobra.Command {
	o := localOptions{Socket: landed.DefaultSocket, Timeout: 10 * time.Second}
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), o.Timeout)
		defer cancel()
		c := landed.NewClient(o.Socket)
		defer c.Close()
		return proxyTrouble(body(ctx, &o, c, cmd, args))
	}
	return cmd
}

// proxyTrouble adds to an error of the client what to do.
func proxyTrouble(err error) error {
	var se *landed.StatusError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return timeoutError{hinted{err, "the proxy hangs, or is busy: the same again, with a longer --timeout"}}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return hinted{err, "is a proxy running on this machine? `zonecast run proxy` is one; --config-socket PATH says where"}
	case errors.Is(err, os.ErrPermission):
		return hinted{err, "the socket's group may ask: --proxy-socket-group and --proxy-socket-mode of the proxy say who"}
	case errors.As(err, &se) && se.Status == 503:
		return hinted{err, "the proxy has not reached a store since its cache was made: `zonecast run proxy --store` says where one is"}
	}
	return err
}

func checkConfigPath(cmd *cobra.Command, path string) error {
	if err := configtree.CheckPath(path); err != nil {
		return misused(cmd, err)
	}
	return nil
}

// landedView is a configuration as JSON.
type landedView struct {
	Path     string          `json:"path"`
	Type     string          `json:"type"`
	Version  uint64          `json:"version"`
	Revision string          `json:"revision"`
	Age      int64           `json:"age_ms"` // -1: not known
	Problem  string          `json:"problem,omitempty"`
	Value    json.RawMessage `json:"value"`
}

// staleAfter is the age from which a person is told: six questions of a proxy that asks as
// often as it does by default.
const staleAfter = time.Minute

func newConfigGet() *cobra.Command {
	return localCommand("get PATH", "print a configuration", `get prints the value of a configuration as this machine's proxy has it. When the store has not confirmed it for a minute, that is said on standard error.`,
		exactArgs("PATH"), func(ctx context.Context, o *localOptions, c *landed.Client, cmd *cobra.Command, args []string) error {
			if err := checkConfigPath(cmd, args[0]); err != nil {
				return err
			}
			v, err := c.Get(ctx, args[0])
			var absent *landed.AbsentError
			if errors.As(err, &absent) {
				return hinted{absent, "`zonecast config list` shows what there is"}
			}
			if err != nil {
				return err
			}
			age := int64(-1)
			if a := v.Age(); a >= 0 {
				age = a.Milliseconds()
			}
			if a := v.Age(); v.Problem != "" || a >= staleAfter || a < 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", staleness(v))
			}
			if o.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(landedView{v.Path, v.Type, v.Version, v.Revision, age, v.Problem, v.JSON})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimRight(v.JSON, "\n"))
			return err
		})
}

// staleness says in words how old a value is.
func staleness(v landed.Value) string {
	text := "it is not known when the store confirmed this last"
	if a := v.Age(); a >= 0 {
		text = fmt.Sprintf("the store confirmed this %v ago", a.Round(time.Second))
	}
	if v.Problem != "" {
		text += "; " + v.Problem
	}
	return text
}

func newConfigList() *cobra.Command {
	return localCommand("list [PREFIX/]", "list configurations", "list lists the configurations that this machine's proxy has, all of them or those whose paths begin with PREFIX/.",
		cobra.MaximumNArgs(1), func(ctx context.Context, o *localOptions, c *landed.Client, cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
			if err := configtree.CheckPrefix(prefix); err != nil {
				return misused(cmd, err)
			}
			all := landed.List{Configs: []landed.Listed{}}
			for from := ""; ; {
				page, err := c.List(ctx, prefix, from)
				if err != nil {
					return err
				}
				page.Configs = append(all.Configs, page.Configs...)
				all = page
				if from = page.Next; from == "" {
					break
				}
			}
			if o.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "PATH\tTYPE\tSIZE\tREVISION\tVERSION")
			for _, v := range all.Configs {
				fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\n", v.Path, v.Type, v.Size, v.Revision, v.Version)
			}
			return t.Flush()
		})
}

// watching is one run of `config watch`.
type watching struct {
	path    string
	file    string // to be written; empty: none
	command []string
	limit   time.Duration // of a run of the command
	print   bool
	log     *slog.Logger
	out     io.Writer
	err     io.Writer
}

// Pauses before a file is written, or a command run, again that failed; they double.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

func newConfigWatch() *cobra.Command {
	var w watching
	var command string
	var shell bool
	o := struct {
		service.LogOptions
		Socket string `option:"config-socket" help:"unix socket of this machine's proxy of configurations"`
	}{defaultLog(), landed.DefaultSocket}
	cmd := &cobra.Command{
		Use: "watch PATH [--write FILE] [--exec CMD]", Short: "keep a file like a configuration, and run a command when it changes", Args: exactArgs("PATH"),
		Long: `watch follows a configuration and stays alive: at the start and at each change FILE is written, whole or not at all, and then CMD is run.
CMD is run directly, without a shell; its words are separated by spaces (--shell gives it to /bin/sh -c instead). It has the value on standard input, and the
variables ZONECAST_LANDED_PATH, _FILE, _VERSION, _REVISION and _TYPE. One run at a time: what changes meanwhile waits, the newest alone. A run that fails is tried
again, after pauses from one second to one minute, until it succeeds or a newer value comes. Without --write and --exec the values are printed, one a line.

Nothing is done when the configuration is removed or the proxy is dead: what was written stays. After a restart CMD is run again, even when the file is as it should be.`,
		Example: `  zonecast config watch app/limits --write /etc/app/limits.json --exec "systemctl reload app"`,
	}
	declare(cmd, "", &o)
	f := cmd.Flags()
	f.StringVar(&w.file, "write", "", "file that gets the value; its permissions are kept, a new one gets 0644")
	f.StringVar(&command, "exec", "", "command that is run after each change")
	f.BoolVar(&shell, "shell", false, "give the command to /bin/sh -c")
	f.DurationVar(&w.limit, "exec-timeout", 5*time.Minute, "how long a run of the command may take; then it is ended and counts as failed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if err := checkConfigPath(cmd, args[0]); err != nil {
			return err
		}
		words := strings.Fields(command)
		switch {
		case shell && command == "":
			return misused(cmd, errors.New("--shell without --exec"))
		case shell:
			words = []string{"/bin/sh", "-c", command}
		case strings.ContainsAny(command, "\"'`\\$|&;<>*?(){}"):
			return misused(cmd, fmt.Errorf("--exec %q has characters that mean something to a shell, and there is none; expected words with spaces between, or --shell", command))
		}
		if w.limit <= 0 {
			return misused(cmd, fmt.Errorf("--exec-timeout is %v, expected more than 0", w.limit))
		}
		log, err := o.Logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		w.path, w.command, w.log, w.out, w.err = args[0], words, log, cmd.OutOrStdout(), cmd.ErrOrStderr()
		w.print = w.file == "" && len(words) == 0
		c := landed.NewClient(o.Socket)
		defer c.Close()
		return w.run(cmd.Context(), c)
	}
	return cmd
}

// run follows the configuration until ctx ends.
func (w *watching) run(ctx context.Context, c *landed.Client) error {
	newest := make(chan landed.Value, 1)
	watched := make(chan error, 1)
	said := ""
	go func() {
		watched <- c.Watch(ctx, w.path, 0, func(v landed.Value) error {
			select { // an older one that nobody took is void
			case <-newest:
			default:
			}
			newest <- v
			return nil
		}, func(err error, _ time.Time) {
			text := ""
			if err != nil {
				text = err.Error()
			}
			switch {
			case text != "" && text != said:
				w.log.Warn("configuration is not followed, what was written stays", "path", w.path, "error", err)
			case text == "" && said != "":
				w.log.Info("configuration is followed again", "path", w.path)
			}
			said = text
		})
	}()
	pause := time.Duration(0)
	var failed <-chan time.Time // nil: nothing is to be tried again
	var v landed.Value
	for {
		select {
		case err := <-watched: // with ctx: a command that runs has ended by now
			return err
		case v = <-newest:
			pause = 0
		case <-failed:
		}
		failed = nil
		if err := w.act(ctx, v); err != nil && ctx.Err() == nil {
			pause = min(max(2*pause, firstRetry), lastRetry)
			failed = time.After(pause)
			w.log.Error("configuration not put into force, trying again", "path", w.path, "version", v.Version, "error", err, "pause", pause)
		}
	}
}

// act writes the file and runs the command.
func (w *watching) act(ctx context.Context, v landed.Value) error {
	if w.print {
		_, err := fmt.Fprintf(w.out, "%s\n", bytes.TrimRight(v.JSON, "\n"))
		return err
	}
	if w.file != "" {
		if err := w.write(v.JSON); err != nil {
			return err
		}
	}
	if len(w.command) == 0 {
		return nil
	}
	began := time.Now()
	rctx, cancel := context.WithTimeoutCause(ctx, w.limit, fmt.Errorf("not done after %v", w.limit))
	defer cancel()
	cmd := exec.CommandContext(rctx, w.command[0], w.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(v.JSON), w.out, w.err
	cmd.Env = append(os.Environ(), "ZONECAST_LANDED_PATH="+v.Path, "ZONECAST_LANDED_FILE="+w.file,
		"ZONECAST_LANDED_VERSION="+strconv.FormatUint(v.Version, 10), "ZONECAST_LANDED_REVISION="+v.Revision, "ZONECAST_LANDED_TYPE="+v.Type)
	// What it starts ends with it, and a terminal's interrupt is for this process alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if cause := context.Cause(rctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", w.command[0], err)
	}
	w.log.Info("command done", "path", w.path, "version", v.Version, "took", time.Since(began))
	return nil
}

// write makes value the content of the file, unless it is that already.
func (w *watching) write(value []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(w.file); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("write %s: it is no file", w.file)
		}
		mode = info.Mode().Perm()
		if now, err := os.ReadFile(w.file); err == nil && bytes.Equal(now, value) {
			return nil
		}
	}
	if err := atomicfile.Write(w.file, mode, value); err != nil {
		return err
	}
	w.log.Info("file written", "path", w.path, "file", w.file, "size", len(value))
	return nil
}
