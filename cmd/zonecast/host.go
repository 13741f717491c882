package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/host"
	"github.com/zonecast/zonecast/host/doctor"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/service"
)

// stopParts is how long all parts may take to end, one after the other.
const stopParts = 2 * time.Minute

// hostParts are the parts of this host as `run host` runs them: their options are in the
// file and in variables, as for each part alone, and what they leave out follows from the
// host's.
type hostParts struct {
	cfg    host.Config
	file   string // of --config, or empty
	log    []string
	values map[string]map[string]service.Origin // by part and key
	args   map[string][]string                  // by part
	wrong  map[string]error                     // by part
}

// plan finds out how each part is to be run.
func (h *hostParts) plan() error {
	if h.cfg.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("host-name is empty, and this machine's name is not known: %w", err)
		}
		h.cfg.Name = name
	}
	h.values, h.args, h.wrong = map[string]map[string]service.Origin{}, map[string][]string{}, map[string]error{}
	// In this order: what the later ones need is where the earlier ones answer.
	for _, part := range host.Parts {
		if !h.cfg.Has(part) {
			continue
		}
		// Twice: as they are set, and with what follows for those that are not.
		if err := h.load(part, nil); err != nil {
			h.wrong[part] = err
			continue
		}
		given := h.derived(part)
		if err := h.load(part, given); err != nil {
			h.wrong[part] = err
			continue
		}
		if h.wrong[part] == nil {
			h.args[part] = slices.Concat([]string{"run", part}, given, []string{"--http", h.cfg.HTTPOf(part).String()}, h.log)
		}
	}
	var errs []error
	for _, part := range h.cfg.Run {
		if err := h.wrong[part]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part, err))
		}
	}
	return errors.Join(errs...)
}

// load reads the options of a part; flags are set before.
func (h *hostParts) load(part string, flags []string) error {
	root := newRoot(nil, io.Discard, io.Discard)
	cmd, _, err := root.Find([]string{"run", part})
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(flags); err != nil {
		return err
	}
	err = service.Load(cmd, os.LookupEnv, h.file)
	if err != nil && flags != nil {
		return err // the first time something may be missing yet
	}
	h.values[part] = map[string]service.Origin{}
	for _, o := range service.Origins(cmd) {
		h.values[part][o.Key] = o
	}
	return nil
}

// get is an option of a part that runs here; empty if it does not.
func (h *hostParts) get(part, key string) string { return h.values[part][key].Value }

// list is get of a list.
func (h *hostParts) list(part, key string) []string {
	text := h.get(part, key)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// derived are the flags for what is not set otherwise.
func (h *hostParts) derived(part string) []string {
	args := []string{}
	if h.file != "" {
		args = append(args, "--config", h.file)
	}
	put := func(name, value string) {
		o, there := h.values[part][part+"."+name]
		if there && value != "" && o.From == "default" {
			args = append(args, "--"+part+"-"+name, value)
		}
	}
	answers := h.list("authority", "authority.listen")
	journal := cmp.Or(h.get("agent", "agent.journal"), h.cfg.Path("journal"))
	status := cmp.Or(h.get("agent", "agent.status-dir"), h.cfg.Path("status"))
	put("host", h.cfg.Name)
	put("journal", journal)
	put("status-dir", status)
	put("keys", strings.Join(h.cfg.Keys, ","))
	put("revoked", h.get("agent", "agent.revoked"))
	switch part {
	case "agent":
		put("http", h.cfg.HTTPOf(part).String())
		if where := h.authorityAhead(); where != "" {
			put("dns", where)
		}
	case "authority":
		put("image-dir", h.cfg.Path("images"))
		put("hand-over", h.cfg.Path("run", "authority.sock"))
	case "recursor":
		put("dir", h.cfg.Path("recursor"))
		if len(answers) > 0 {
			put("authority", answers[0])
		}
	case "announcer":
		put("state", h.cfg.Path("announcer.json"))
		put("authority", strings.Join(answers, ","))
		put("recursor", strings.Join(h.list("recursor", "recursor.listen"), ","))
	case "tinydns":
		put("dir", h.cfg.Path("tinydns"))
	case "proxy":
		put("dir", h.cfg.Path("proxy"))
	}
	return args
}

// authorityAhead is where the authority will answer, for the agent, which is planned
// before it.
func (h *hostParts) authorityAhead() string {
	if !h.cfg.Has("authority") {
		return ""
	}
	if err := h.load("authority", nil); err != nil {
		return ""
	}
	return slices.Concat(h.list("authority", "authority.listen"), []string{""})[0]
}

// addrs reads a list of addresses and ports; what is none is the part's mistake, and said
// elsewhere.
func addrs(list []string) (out []netip.AddrPort) {
	for _, text := range list {
		if a, err := netip.ParseAddrPort(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// parts are what the supervisor runs.
func (h *hostParts) parts() []host.Part {
	var out []host.Part
	for _, name := range host.Parts {
		if !h.cfg.Has(name) {
			continue
		}
		p := host.Part{Name: name, Args: h.args[name]}
		switch name {
		case "authority":
			p.HandsOver = h.get(name, "authority.hand-over") != ""
			fallthrough
		case "recursor":
			if at := addrs(h.list(name, name+".listen")); len(at) > 0 {
				p.DNS = at[0]
			}
		case "announcer":
			if h.get(name, "announcer.bgp-graceful-restart") == "0s" {
				p.Stays = "its end would take the routes back, floor or not: drain this host and end it, or set announcer.bgp-graceful-restart"
			}
		}
		out = append(out, p)
	}
	return out
}

// addHost makes `run host`.
func addHost(run *cobra.Command) {
	p := processOptions{LogOptions: defaultLog()}
	cfg := host.DefaultConfig()
	cmd := &cobra.Command{
		Use: "host", Short: "on a host: runs agent, authority, recursor and announcer, and keeps them running", Args: exactArgs(),
		Long: `host runs the parts of a DNS host as processes of their own and keeps them running: what ends is started again, what does not answer is
restarted, what they log is logged here. Their options stand in the file of --config and in variables, as for each part alone; what is not set follows
from the options of the host: names, directories, keys and where one part finds the other (docs/host.md).

SIGHUP puts new processes in the place of those that run: the authority's takes its sockets over, so that no query is lost. With --host-manager
runit or systemd the processes are services of those, which are watched and replaced through sv and systemctl.`,
		Example: `  zonecast run host --config /etc/zonecast/zonecast.toml`,
	}
	declare(cmd, "", &p)
	declare(cmd, "host", &cfg)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		h := &hostParts{cfg: cfg, file: optionsFile(cmd), log: logArgs(p, cmd.ErrOrStderr())}
		if err := h.plan(); err != nil {
			return misused(cmd, err)
		}
		return runNode(cmd, "host", p, nil, func(n *node) error { return h.add(n, cmd.ErrOrStderr()) })
	}
	run.AddCommand(cmd)
}

// optionsFile is the file that the options are in, or empty.
func optionsFile(cmd *cobra.Command) string {
	return cmp.Or(cmd.Flags().Lookup("config").Value.String(), os.Getenv("ZONECAST_CONFIG"))
}

// logArgs have a part log as this process does: it writes into a pipe.
func logArgs(p processOptions, w io.Writer) []string {
	format := p.Format
	if p.JSON {
		format = "json"
	}
	if f, is := w.(*os.File); format == "auto" && is && term.IsTerminal(int(f.Fd())) {
		format = "text"
	}
	level, err := p.Level.MarshalText()
	if err != nil { // it never does
		level = []byte(slog.LevelInfo.String())
	}
	return []string{"--log-level", string(level), "--log-format", format}
}

// lines is a writer for several goroutines, each of which writes whole lines.
type lines struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (h *hostParts) add(n *node, out io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	s, err := host.New(h.cfg, host.Deps{Program: exe, Parts: h.parts(), Out: &lines{w: out}, Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return err
	}
	n.svc.Add(service.Hangup("replacement", func(ctx context.Context) error {
		// What would not start is not tried: what runs, runs on the options that it began with.
		next := hostParts{cfg: h.cfg, file: h.file, log: h.log}
		if err := next.plan(); err != nil {
			n.log.Error("options are wrong, nothing is replaced", "error", err)
			n.svc.Warn("options", err.Error())
			return nil
		}
		n.svc.ClearWarning("options")
		s.Replace(ctx, next.parts())
		return nil
	}))
	n.svc.Add(service.Task{Name: "parts", Run: s.Run, Detail: s.Detail, Grace: stopParts})
	n.warn("parts", s.Troubles)
	return nil
}

// commandView is a part as `host options` says it, as JSON.
type commandView struct {
	Part string   `json:"part"`
	Args []string `json:"args"` // after zonecast
}

func newHostOptions() *cobra.Command {
	var asJSON bool
	cfg := host.DefaultConfig()
	cmd := &cobra.Command{
		Use: "options", Short: "check the options of this host, and say how each part is run", Args: exactArgs(),
		Long:    `options reads the file of --config and the variables as ` + "`run host`" + ` does, and prints the command of each part. The status is 2 when one would not start on them.`,
		Example: `  zonecast host options --config /etc/zonecast/zonecast.toml`,
	}
	declare(cmd, "host", &cfg)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON and nothing else")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		h := &hostParts{cfg: cfg, file: optionsFile(cmd)}
		if err := h.plan(); err != nil {
			return misused(cmd, err)
		}
		view := []commandView{}
		for _, p := range h.parts() {
			view = append(view, commandView{p.Name, p.Args})
			if !asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "zonecast %s\n", plain(strings.Join(p.Args, " ")))
			}
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string][]commandView{"parts": view})
		}
		return nil
	}
	return cmd
}

// newHostExec is for service managers that have the processes of the parts.
func newHostExec() *cobra.Command {
	cfg := host.DefaultConfig()
	cmd := &cobra.Command{
		Use: "exec PART", Short: "become a part of this host, as run host would run it", Args: exactArgs("PART"),
		Long: `exec reads the options as ` + "`run host`" + ` does and becomes ` + "`run PART`" + ` with all that follows from them. The units and services of parts alone call it, so
that one file is enough for either.`,
		Example: `  zonecast host exec authority --config /etc/zonecast/zonecast.toml`,
	}
	declare(cmd, "host", &cfg)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if !cfg.Has(args[0]) {
			return misused(cmd, fmt.Errorf("%q is no part of this host, expected one of %s (host.run)", args[0], strings.Join(cfg.Run, ", ")))
		}
		if cfg.Manager == host.Own {
			return misused(cmd, fmt.Errorf("host.manager is %s: `run host` has the parts, and two of one would take over from each other for ever; set it to %s or %s for units or services of parts alone", host.Own, host.Systemd, host.Runit))
		}
		h := &hostParts{cfg: cfg, file: optionsFile(cmd)}
		if err := h.plan(); err != nil && (h.wrong[args[0]] != nil || h.args[args[0]] == nil) {
			return misused(cmd, err) // what is wrong with another part is that part's
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(cfg.Path("run"), 0o755); err != nil { // for the hand-over's socket
			return err
		}
		return fmt.Errorf("become %s: %w", args[0], syscall.Exec(exe, append([]string{exe}, h.args[args[0]]...), os.Environ()))
	}
	return cmd
}

func newHostDoctor() *cobra.Command {
	var asJSON, all bool
	cfg := host.DefaultConfig()
	cmd := &cobra.Command{
		Use: "doctor", Short: "look for what is wrong with this host, and say what to do", Args: exactArgs(),
		Long: `doctor looks at this host as it is configured to be - the file of --config and the variables that ` + "`run host`" + ` has - and says of each check what it found, and
what to do where that is not well. It changes nothing, and needs nothing to run. Run it as root or as the user of the parts; others see less.
The status is 0 when nothing is bad, 1 when something is.`,
		Example: `  zonecast host doctor --config /etc/zonecast/zonecast.toml
  zonecast host doctor --json`,
	}
	declare(cmd, "host", &cfg)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON and nothing else")
	cmd.Flags().BoolVar(&all, "all", false, "also print the checks that do not apply here")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if err := cfg.Validate(); err != nil {
			return misused(cmd, fmt.Errorf("options of [host]: %w", err))
		}
		h := &hostParts{cfg: cfg, file: optionsFile(cmd)}
		_ = h.plan() // what is wrong is in h, and a check says it
		found := doctor.Examine(cmd.Context(), h.facts())
		if err := showFindings(cmd.OutOrStdout(), found, asJSON, all); err != nil {
			return err
		}
		return badFindings(found)
	}
	return cmd
}

// facts are what the doctor looks at.
func (h *hostParts) facts() doctor.Facts {
	of := func(key string, parts ...string) string { // of the first part that has it
		for _, p := range parts {
			if v := h.get(p, p+"."+key); v != "" {
				return v
			}
		}
		return ""
	}
	daemons := []string{"agent", "authority", "recursor", "tinydns"}
	f := doctor.Facts{
		Config: h.cfg, File: h.file, Mistakes: h.wrong, Dataset: cmp.Or(of("dataset", daemons...), "internal"), FreshZone: "\x08zonecast\x08internal\x00",
		Journal: of("journal", daemons...), StatusDir: of("status-dir", daemons...), Revoked: of("revoked", daemons...),
		HandOver: h.get("authority", "authority.hand-over"), MaxTCP: 10000, // as zero means
		Authority: addrs(h.list("authority", "authority.listen")), Recursor: addrs(h.list("recursor", "recursor.listen")),
		RecursorDir: h.get("recursor", "recursor.dir"), Unbound: h.get("recursor", "recursor.unbound"),
		Loopback: h.get("announcer", "announcer.loopback"),
	}
	if keys := of("keys", daemons...); keys != "" {
		f.Keys = strings.Split(keys, ",")
	}
	if exe, err := os.Executable(); err == nil {
		f.Program = exe
	}
	if n, err := strconv.Atoi(h.get("authority", "authority.max-tcp")); err == nil && n > 0 {
		f.MaxTCP = n
	}
	if zone, err := record.ParseName(h.get("announcer", "announcer.fresh-zone")); err == nil && h.cfg.Has("announcer") {
		f.FreshZone = zone
	}
	for _, dir := range []string{h.cfg.Dir, f.Journal, f.StatusDir, h.get("authority", "authority.image-dir"), f.RecursorDir} {
		if dir != "" && !slices.Contains(f.Dirs, dir) {
			f.Dirs = append(f.Dirs, dir)
		}
	}
	for _, text := range h.list("announcer", "announcer.vips") {
		var v route.VIP
		if v.UnmarshalText([]byte(text)) == nil {
			f.VIPs = append(f.VIPs, v.Address)
		}
	}
	for _, text := range h.list("announcer", "announcer.bgp-peers") {
		var p route.Peer
		if p.UnmarshalText([]byte(text)) == nil {
			f.Peers = append(f.Peers, p.Addr)
		}
	}
	for _, part := range []string{"agent", "announcer"} {
		if so := (storeOptions{
			Store: h.get(part, "store"), Prefix: h.get(part, "store-prefix"), Auth: h.get(part, "store-auth"),
			CA: h.get(part, "store-ca"), Cert: h.get(part, "store-cert"), Key: h.get(part, "store-key"),
		}); so.Store != "" && f.Store == nil {
			f.StoreName = so.public()
			f.Store = func(ctx context.Context) error {
				st, err := openStore(ctx, so, h.get(part, "dir"), slog.New(slog.DiscardHandler))
				if err != nil {
					return err
				}
				_, err = st.Get(ctx, tree.HeadPath(f.Dataset))
				return errors.Join(err, st.Close())
			}
		}
	}
	return f
}

// badFindings is the command's failure, or nil.
func badFindings(found []doctor.Finding) error {
	n := 0
	for _, x := range found {
		if x.Verdict == doctor.Bad {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s of %d bad", count(n, "check"), len(found))
}

func showFindings(w io.Writer, found []doctor.Finding, asJSON, all bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Checks []doctor.Finding `json:"checks"`
		}{found})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, x := range found {
		if x.Verdict == doctor.Skipped && !all {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", x.Verdict, x.Check, plain(x.Found))
		if x.Do != "" {
			fmt.Fprintf(t, "\t\tdo: %s\n", plain(x.Do))
		}
	}
	return t.Flush()
}
