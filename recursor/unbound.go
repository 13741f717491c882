package recursor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/daemon"
)

// minVersion is the oldest Unbound that knows every option written: 1.13 is that of
// Debian 11. reload_keep_cache came with 1.17.1 (Debian 12); before it a change of more
// than zones costs the cache.
var minVersion = [2]int{1, 13}

// programTime bounds a run of one of Unbound's programs.
const programTime = 20 * time.Second

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is what a person may do.
func (e *hinted) Hint() string { return e.hint }

// programs are Unbound's, found and looked at.
type programs struct {
	unbound, checkconf string
	version            string
}

var versionForm = regexp.MustCompile(`(?m)^Version ((\d+)\.(\d+)\S*)`)

const installHint = "apt-get install unbound, or give its program by --recursor-unbound"

// findPrograms finds Unbound and asks for its version.
func findPrograms(name string) (programs, error) {
	var p programs
	if name == "" {
		name = "unbound"
	}
	var err error
	if p.unbound, err = daemon.Find(name); err != nil {
		return p, &hinted{fmt.Errorf("unbound is not there: %w", err), installHint}
	}
	p.checkconf = filepath.Join(filepath.Dir(p.unbound), "unbound-checkconf")
	if _, err := os.Stat(p.checkconf); err != nil {
		if p.checkconf, err = daemon.Find("unbound-checkconf"); err != nil {
			return p, &hinted{fmt.Errorf("unbound-checkconf is neither beside %s nor in PATH: %w", p.unbound, err), installHint}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.unbound, "-V")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return p, &hinted{fmt.Errorf("%s -V does not say which version of Unbound it is: %q (%v)", p.unbound, clip(string(out)), err), installHint}
	}
	p.version = string(m[1])
	major, _ := strconv.Atoi(string(m[2])) // digits
	minor, _ := strconv.Atoi(string(m[3]))
	if major < minVersion[0] || major == minVersion[0] && minor < minVersion[1] {
		return p, &hinted{
			fmt.Errorf("%s is Unbound %s, expected %d.%d or later: it does not know all options that are used", p.unbound, p.version, minVersion[0], minVersion[1]),
			"install a later one, or give its program by --recursor-unbound",
		}
	}
	return p, nil
}

// check has unbound-checkconf judge a configuration before it is anywhere.
func (p programs) check(ctx context.Context, dir string, conf []byte) error {
	f, err := os.CreateTemp(dir, ".check-*.conf")
	if err != nil {
		return fmt.Errorf("check configuration: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(conf)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("check configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.checkconf, f.Name())
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		said := strings.ReplaceAll(out.String(), f.Name(), "unbound.conf")
		return &hinted{fmt.Errorf("unbound-checkconf refuses the configuration: %s (%w)", clip(said), err), "mend the option or the file of --recursor-include that it names"}
	}
	return nil
}

// refused is a zone that Unbound does not take.
type refused struct {
	zone
	why error
}

// maxChecks bounds how many times the checker runs to find the zones that it refuses;
// each takes some 10 ms.
const maxChecks = 200

// fit finds the zones with which the configuration passes the check: all of them, or
// all but those that are to blame. An error says that it does not pass without any.
func (p programs) fit(ctx context.Context, c Config, zones []zone) (conf []byte, bad []refused, err error) {
	checks := 0
	try := func(zs []zone) ([]byte, error) {
		checks++
		conf, err := c.conf(zs)
		if err != nil {
			return nil, err
		}
		return conf, p.check(ctx, c.Dir, conf)
	}
	if conf, err = try(zones); err == nil || len(zones) == 0 {
		return conf, nil, err
	}
	if _, none := try(nil); none != nil {
		return nil, nil, none
	}
	// Of the zones that are taken and some more: which of those must stay away?
	var taken []zone
	var add func(more []zone) error
	add = func(more []zone) error {
		all := append(append([]zone{}, taken...), more...)
		c, err := try(all)
		switch {
		case err == nil:
			taken, conf = all, c
			return nil
		case ctx.Err() != nil || checks > maxChecks:
			return err
		case len(more) == 1:
			bad = append(bad, refused{more[0], err})
			return nil
		}
		if err := add(more[:len(more)/2]); err != nil {
			return err
		}
		return add(more[len(more)/2:])
	}
	if err := add(zones); err != nil {
		return nil, nil, err
	}
	if len(taken) == 0 { // every one is to blame
		if conf, err = try(nil); err != nil {
			return nil, nil, err
		}
	}
	return conf, bad, nil
}

// lineLevel judges a line of Unbound's log:
//
//	[1795745269] unbound[26069:0] info: start of service (unbound 1.17.1).
func lineLevel(line string) (slog.Level, string, bool) {
	_, text, _ := strings.Cut(line, "] unbound[")
	_, said, found := strings.Cut(text, "] ")
	if !found {
		return slog.LevelWarn, line, true
	}
	kind, _, _ := strings.Cut(said, ":")
	switch kind {
	case "error", "fatal error":
		return slog.LevelError, said, true
	case "warning":
		return slog.LevelWarn, said, true
	}
	return slog.LevelDebug, said, true
}

// rootKey is where Debian's dns-root-data has the trust anchor of the root.
const rootKey = "/usr/share/dns/root.key"

// anchor makes the file of the trust anchor in dir from the system's, if there is none yet.
func (c Config) placeAnchor() error {
	if c.Anchor != "" {
		return nil
	}
	if _, err := os.Stat(c.anchor()); err == nil {
		return nil
	}
	for _, path := range []string{"/var/lib/unbound/root.key", rootKey} {
		if b, err := os.ReadFile(path); err == nil {
			if err := atomicfile.Write(c.anchor(), 0o644, b); err != nil {
				return fmt.Errorf("place trust anchor: %w", err)
			}
			return c.own(c.anchor())
		}
	}
	return &hinted{
		fmt.Errorf("no trust anchor: there is none in %s, nor %s", c.Dir, rootKey),
		"apt-get install dns-root-data, give a file by --recursor-trust-anchor, or --recursor-trust-anchor off to validate nothing",
	}
}
