package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/host"
)

// pidOf finds the process of a part: by its pid file, or, where `run host` has not started
// it, by a command line that has this host's options.
func pidOf(f Facts, part string) (pid int, ok bool) {
	if b, err := os.ReadFile(f.Config.PidFile(part)); err == nil {
		number, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
		if pid, err := strconv.Atoi(number); err == nil {
			if _, ok := runsPart(pid, part); ok {
				return pid, true
			}
		}
	}
	if _, err := os.Stat(f.Config.Path("run")); err == nil && f.Config.Manager == host.Own {
		return 0, false
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, false
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		args, ok := runsPart(pid, part)
		if ok && (f.File != "" && slices.Contains(args, f.File) || f.Journal != "" && slices.Contains(args, f.Journal)) {
			return pid, true
		}
	}
	return 0, false
}

// runsPart tells whether a process is `zonecast run part`, of whatever host, and gives its
// command line.
func runsPart(pid int, part string) (args []string, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, false
	}
	args = strings.Split(string(b), "\x00")
	at := slices.Index(args, "run")
	return args, at > 0 && strings.HasPrefix(filepath.Base(args[0]), "zonecast") && at+1 < len(args) && args[at+1] == part
}

func processes(_ context.Context, f Facts) Finding {
	var there, missing []string
	for _, p := range partsOf(f) {
		if pid, ok := pidOf(f, p); ok {
			there = append(there, fmt.Sprintf("%s %d", p, pid))
		} else {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		do := "start them: `systemctl start zonecast-host`, or `zonecast run host`; its log says why a part ends"
		if f.Config.Manager == host.Runit {
			do = "start them: `sv up " + f.Config.Service(missing[0]) + "`; the log of the service says why a part ends"
		}
		return bad("not running: "+strings.Join(missing, ", "), do)
	}
	return ok(strings.Join(there, ", "))
}

func program(_ context.Context, f Facts) Finding {
	now, err := os.Stat(f.Program)
	if err != nil {
		return skip(err.Error())
	}
	var old []string
	seen := false
	for _, p := range partsOf(f) {
		pid, there := pidOf(f, p)
		if !there {
			continue
		}
		runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			continue // another user's: not for us to know
		}
		seen = true
		if !os.SameFile(now, runs) {
			old = append(old, p)
		}
	}
	switch {
	case len(old) > 0:
		return warn("another file than "+f.Program+" runs: "+strings.Join(old, ", "), "after an upgrade: `systemctl reload zonecast-host` (or SIGHUP to `zonecast run host`) puts the new one in its place, without a lost query")
	case !seen:
		return skip("no part runs, or they are another user's")
	}
	return ok("the parts run " + f.Program)
}

// socket is one that somebody listens on.
type socket struct {
	addr  netip.AddrPort
	tcp   bool
	inode string
}

// listening reads who listens, of /proc/net.
func listening() []socket {
	var all []socket
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + file)
		if err != nil {
			continue
		}
		tcp := strings.HasPrefix(file, "tcp")
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			// TCP_LISTEN is 0A; an unconnected UDP socket is in TCP_CLOSE, 07.
			if len(words) < 10 || tcp && words[3] != "0A" || !tcp && words[3] != "07" {
				continue
			}
			if a, ok := kernelAddr(words[1]); ok {
				all = append(all, socket{a, tcp, words[9]})
			}
		}
	}
	return all
}

// kernelAddr reads an address as /proc/net has it: words of 32 bits in the machine's order,
// which is little endian on all that this is built for.
func kernelAddr(text string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(text, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(addr) != 8 && len(addr) != 32 {
		return netip.AddrPort{}, false
	}
	var b []byte
	for i := 0; i < len(addr); i += 8 {
		w, err := strconv.ParseUint(addr[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}

// owner names the process that has a socket; empty when it cannot be told.
func owner(inode string) (name string, pid int) {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "", 0
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		b, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir)) // the pattern says that it is a number
		return strings.TrimSpace(string(b)), pid
	}
	return "", 0
}

// inTheWay are the sockets that keep another from being bound to addr.
func inTheWay(addr netip.AddrPort) []socket {
	var out []socket
	for _, s := range listening() {
		if s.addr.Port() == addr.Port() && (s.addr.Addr() == addr.Addr() || s.addr.Addr().IsUnspecified() || addr.Addr().IsUnspecified()) {
			out = append(out, s)
		}
	}
	return out
}

// resolvedHint is how port 53 is got from systemd-resolved without losing resolution.
const resolvedHint = "printf '[Resolve]\\nDNSStubListener=no\\n' > /etc/systemd/resolved.conf.d/zonecast.conf, ln -sf /run/systemd/resolve/resolv.conf /etc/resolv.conf, systemctl restart systemd-resolved; " +
	"or have the authority or recursor listen on this host's own addresses instead of 0.0.0.0, [::] or 127.0.0.53"

func resolved(_ context.Context, f Facts) Finding {
	var stub *socket
	for _, s := range listening() {
		if s.addr.Port() != 53 {
			continue
		}
		name, _ := owner(s.inode)
		// The name has at most 15 octets. Another user's process has no name for us, but
		// nobody else takes these two addresses.
		if strings.HasPrefix(name, "systemd-resolve") || name == "" && (s.addr.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || s.addr.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 54})) {
			stub = &s
			break
		}
	}
	if stub == nil {
		return ok("systemd-resolved does not have it")
	}
	for _, a := range slices.Concat(f.Authority, f.Recursor) {
		if a.Port() == 53 && (a.Addr().IsUnspecified() || a.Addr() == stub.addr.Addr()) {
			return bad(fmt.Sprintf("systemd-resolved has %s, and %s of this host cannot be bound beside it", stub.addr, a), resolvedHint)
		}
	}
	return ok(fmt.Sprintf("systemd-resolved has %s, which is in nobody's way here", stub.addr))
}

func ports(_ context.Context, f Facts) Finding {
	var free, ours []string
	for _, l := range []struct {
		part  string
		addrs []netip.AddrPort
	}{{"authority", f.Authority}, {"recursor", f.Recursor}} {
		for _, a := range l.addrs {
			taken := inTheWay(a)
			if len(taken) == 0 {
				if err := bindable(a); err != nil {
					return bad(fmt.Sprintf("%s of the %s cannot be bound: %v", a, l.part, err), "add the address to an interface (a VIP: the announcer does), or see the check of capabilities")
				}
				free = append(free, a.String())
				continue
			}
			for _, s := range taken {
				name, pid := owner(s.inode)
				mine := strings.HasPrefix(name, "zonecast") || l.part == "recursor" && name == "unbound" || l.part == "authority" && name == "tinydns"
				switch {
				case name == "":
					// It is another user's. What answers there is another check's matter.
				case !mine:
					do := fmt.Sprintf("stop it (`ss -lpn 'sport = :%d'` shows it), or choose another %s-listen", a.Port(), l.part)
					if strings.HasPrefix(name, "systemd-resolve") {
						do = resolvedHint
					}
					return bad(fmt.Sprintf("%s of the %s is taken by %s, pid %d", a, l.part, name, pid), do)
				}
			}
			ours = append(ours, a.String())
		}
	}
	switch {
	case len(free)+len(ours) == 0:
		return skip("nothing listens for DNS here")
	case len(free) > 0:
		return ok("free: " + strings.Join(free, ", "))
	}
	return ok("in use by what should: " + strings.Join(ours, ", "))
}

// bindable tries it. A refusal for want of rights is the check of capabilities' matter.
func bindable(a netip.AddrPort) error {
	c, err := net.ListenPacket("udp", a.String())
	if err != nil {
		if isPermission(err) {
			return nil
		}
		return err
	}
	return c.Close()
}

func isPermission(err error) bool {
	return strings.Contains(err.Error(), syscall.EACCES.Error()) || strings.Contains(err.Error(), syscall.EPERM.Error())
}

// Capabilities by their bit (capabilities(7)).
const (
	capSetGID    = 6
	capNetBind   = 10
	capNetAdmin  = 12
	capSysChroot = 18
)

func capabilities(_ context.Context, f Facts) Finding {
	low := uint16(1024)
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 16); err == nil {
			low = uint16(n)
		}
	}
	needs := func(part string) map[string]int {
		n := map[string]int{}
		switch part {
		case "authority":
			for _, a := range f.Authority {
				if a.Port() < low {
					n["CAP_NET_BIND_SERVICE"] = capNetBind
				}
			}
		case "tinydns":
			n["CAP_NET_BIND_SERVICE"], n["CAP_SYS_CHROOT"], n["CAP_SETGID"] = capNetBind, capSysChroot, capSetGID
		case "announcer":
			if f.Loopback != "" {
				n["CAP_NET_ADMIN"] = capNetAdmin
			}
		}
		return n
	}
	var has []string
	for _, p := range partsOf(f) {
		want := needs(p)
		if len(want) == 0 {
			continue
		}
		status, who := "/proc/self/status", "this user, were it to start the "+p+","
		if pid, there := pidOf(f, p); there {
			status, who = fmt.Sprintf("/proc/%d/status", pid), "the "+p+" that runs"
		}
		eff, err := hexField(status, "CapEff:")
		if err != nil {
			return skip(err.Error())
		}
		for name, bit := range want {
			if eff&(1<<bit) == 0 {
				return bad(fmt.Sprintf("%s has no %s", who, name), "AmbientCapabilities="+name+" in its unit (the package's have it; for tinydns under zonecast-host see docs/tinydns.md); in runit: setpriv --ambient-caps; or ports from "+fmt.Sprint(low)+" on, and announcer-loopback empty")
			}
			has = append(has, p+" "+name)
		}
	}
	if len(has) == 0 {
		return ok("no part needs any")
	}
	return ok(strings.Join(has, ", "))
}

func hexField(file, word string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, is := strings.CutPrefix(line, word); is {
			return strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
		}
	}
	return 0, fmt.Errorf("%s has no line %s", file, word)
}

func handOver(_ context.Context, f Facts) Finding {
	if len(f.Authority) == 0 {
		return skip("no authority runs here")
	}
	if f.HandOver == "" {
		return warn("authority.hand-over is empty: a restart of the authority loses queries", "set it to a path such as "+f.Config.Path("run", "authority.sock"))
	}
	i, err := os.Lstat(f.HandOver)
	if err != nil {
		if _, there := pidOf(f, "authority"); there {
			return warn(f.HandOver+" is not there, though an authority runs", "it was started with another hand-over, or its directory cannot be written: see its log; a restart of it loses queries")
		}
		return ok(f.HandOver + ", when the authority runs")
	}
	if i.Mode()&os.ModeSocket == 0 {
		return bad(f.HandOver+" is no socket: the authority does not start", "move it aside")
	}
	return ok(f.HandOver)
}

// status asks the parts that run what they would have people know.
func status(ctx context.Context, f Facts) Finding {
	var said []string
	asked := 0
	client := &http.Client{Timeout: 2 * time.Second}
	for _, p := range partsOf(f) {
		at := f.Config.HTTPOf(p)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/status", at), nil)
		if err != nil {
			return skip(err.Error())
		}
		res, err := client.Do(req)
		if err != nil {
			continue // that it does not run is another check's matter
		}
		asked++
		var s struct {
			Name     string `json:"name"`
			Warnings []struct {
				Text string `json:"text"`
			} `json:"warnings"`
		}
		err = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&s)
		res.Body.Close()
		if err != nil || s.Name != p {
			return bad(fmt.Sprintf("%s answers, and is not the %s", at, p), fmt.Sprintf("`ss -lpn 'sport = :%d'` shows what it is; host.http chooses other ports", at.Port()))
		}
		for _, w := range s.Warnings {
			said = append(said, p+": "+w.Text)
		}
	}
	switch {
	case asked == 0:
		return skip("no part answers on its port from " + f.Config.HTTP.String() + " on")
	case len(said) > 0:
		return warn(strings.Join(said, "; "), "each says what it is about")
	}
	return ok(fmt.Sprintf("%d parts have no warning", asked))
}
