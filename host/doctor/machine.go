package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func user(_ context.Context, f Facts) Finding {
	if os.Getuid() != 0 {
		return ok(fmt.Sprintf("not root (uid %d)", os.Getuid()))
	}
	for _, p := range partsOf(f) {
		pid, there := pidOf(f, p)
		if !there {
			continue
		}
		i, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			continue
		}
		if st, is := i.Sys().(*syscall.Stat_t); is && st.Uid == 0 {
			return warn(p+" runs as root, and needs to be nobody in particular", "run it as a user of its own, with CAP_NET_BIND_SERVICE (and CAP_NET_ADMIN for the announcer): the package's units do")
		}
	}
	return ok("the doctor is root, the parts that run are not")
}

func directories(_ context.Context, f Facts) Finding {
	for _, dir := range f.Dirs {
		i, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// A part makes its own when it may.
			above := filepath.Dir(dir)
			if err := syscall.Access(above, 2); err != nil {
				return bad(fmt.Sprintf("%s is not there, and %s cannot be written: %v", dir, above, err), fmt.Sprintf("mkdir -p %s, and give it to the user of the parts", dir))
			}
			continue
		case err != nil:
			return bad(err.Error(), "see the rights of the directories above it")
		case !i.IsDir():
			return bad(dir+" is no directory", "move it aside")
		}
		const write = 2 // W_OK
		if err := syscall.Access(dir, write); err != nil {
			return bad(fmt.Sprintf("%s cannot be written by uid %d: %v", dir, os.Getuid(), err), "chown it to the user of the parts, or run the doctor as that user")
		}
	}
	return ok(fmt.Sprintf("%d, all there or to be made, and writable", len(f.Dirs)))
}

func disk(_ context.Context, f Facts) Finding {
	dir := f.Config.Dir
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return skip(err.Error())
	}
	free, all := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	found := fmt.Sprintf("%d MiB of %d free at %s", free>>20, all>>20, dir)
	const do = "make room: a host whose disk is full answers what it has, and changes do not arrive"
	switch {
	case st.Files > 0 && st.Ffree < 1000:
		return bad(fmt.Sprintf("%d inodes free at %s", st.Ffree, dir), do)
	case free < 100<<20:
		return bad(found, do)
	case free < 1<<30 || free < all/20:
		return warn(found, do)
	}
	return ok(found)
}

func memory(context.Context, Facts) Finding {
	kib, err := field("/proc/meminfo", "MemAvailable:")
	if err != nil {
		return skip(err.Error())
	}
	mib := kib / 1024
	switch {
	case mib < 64:
		return bad(fmt.Sprintf("%d MiB available", mib), "the kernel may end a daemon at any moment: give the machine more, or run less on it")
	case mib < 256:
		return warn(fmt.Sprintf("%d MiB available", mib), "give the machine more, or run less on it")
	}
	return ok(fmt.Sprintf("%d MiB available", mib))
}

// field reads the number behind a word at the beginning of a line.
func field(file, word string) (uint64, error) {
	r, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		if words := strings.Fields(s.Text()); len(words) > 1 && words[0] == word {
			return strconv.ParseUint(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no line %s", file, word)
}

func clock(context.Context, Facts) Finding {
	// No clock is before the time of this code.
	if now := time.Now(); now.Year() < 2026 {
		return bad(fmt.Sprintf("it is %s by this clock", now.UTC().Format(time.RFC3339)), "set the clock; install chrony or systemd-timesyncd")
	}
	var t syscall.Timex
	state, err := syscall.Adjtimex(&t)
	if err != nil {
		return skip(fmt.Sprintf("adjtimex: %v", err))
	}
	const timeError, unsynchronised = 5, 0x40 // TIME_ERROR, STA_UNSYNC of adjtimex(2)
	if state == timeError || t.Status&unsynchronised != 0 {
		return warn("nobody keeps this clock right (adjtimex: unsynchronised)", "install chrony or systemd-timesyncd; in a container look at the machine around it. Ages and the expiry of overrides depend on it")
	}
	return ok(fmt.Sprintf("kept right, to %s", time.Duration(t.Maxerror)*time.Microsecond))
}

func openFiles(_ context.Context, f Facts) Finding {
	need := uint64(f.MaxTCP) + 1000
	pid, there := pidOf(f, "authority")
	if !there {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			return skip(err.Error())
		}
		// Go raises the soft limit to the hard one.
		return filesVerdict("this shell", l.Max, need)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return skip(err.Error())
	}
	for line := range strings.Lines(string(b)) {
		if rest, is := strings.CutPrefix(line, "Max open files"); is {
			if words := strings.Fields(rest); len(words) > 0 {
				if words[0] == "unlimited" {
					return ok("the authority may open any number")
				}
				n, err := strconv.ParseUint(words[0], 10, 64)
				if err != nil {
					return skip(err.Error())
				}
				return filesVerdict("the authority", n, need)
			}
		}
	}
	return skip(fmt.Sprintf("/proc/%d/limits has no line Max open files", pid))
}

func filesVerdict(who string, have, need uint64) Finding {
	if have < need {
		return warn(fmt.Sprintf("%s may open %d, and authority.max-tcp wants %d", who, have, need), "LimitNOFILE of its unit, ulimit -n, or a lower authority.max-tcp")
	}
	return ok(fmt.Sprintf("%s may open %d", who, have))
}
