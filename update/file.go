package update

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"
	"time"
)

// ignored tells whether a directory entry is no zone file by its name: hidden
// files, what editors leave behind or make for a moment, and BIND's journals.
func ignored(name string) bool {
	for _, suffix := range []string{"~", ".swp", ".swo", ".swx", ".tmp", ".bak", ".orig", ".rej", ".jnl"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") ||
		name == "4913" // vim tries with it whether the directory can be written
}

// signature is what changes when a file does. The zero value is a file that is not
// there.
type signature struct {
	size          int64
	modified      time.Time
	changed       time.Time // of the inode: catches a write that puts the old mtime back
	device, inode uint64
	uid           uint32
	owned         bool // uid is known
}

// look gives the signature of the file, links followed inside root.
func look(root *os.Root, file string) (signature, error) {
	info, err := root.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return signature{}, nil
	}
	if err != nil {
		return signature{}, err
	}
	s := signature{size: info.Size(), modified: info.ModTime()}
	s.system(info)
	return s, nil
}

// signatures gives those of several files. One that cannot be looked at counts as
// not there: reading it says why.
func signatures(root *os.Root, files []string) map[string]signature {
	all := make(map[string]signature, len(files))
	for _, f := range files {
		all[f], _ = look(root, f)
	}
	return all
}

// still tells for how long the youngest file has not been written; a time in the
// future counts as long ago, since another machine's clock may have set it.
func still(now time.Time, all map[string]signature) time.Duration {
	least := time.Duration(1<<63 - 1)
	for _, s := range all {
		if age := now.Sub(s.modified); age >= 0 && age < least {
			least = age
		}
	}
	return least
}

// author is the name of the user who owns a file, "" where that is not known.
func (im *Importer) author(s signature) string {
	if !s.owned {
		return ""
	}
	uid := s.uid
	im.mu.Lock()
	defer im.mu.Unlock()
	name, ok := im.users[uid]
	if !ok {
		name = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		} else {
			name = "uid " + name
		}
		im.users[uid] = name
	}
	return name
}

// directories gives where files really lie: a write there is a change, although
// nothing happens in the directory of the link.
func directories(dir string, files []string) []string {
	var all []string
	for _, f := range files {
		all = append(all, path.Dir(path.Join(dir, f)))
		if real, err := os.Readlink(path.Join(dir, f)); err == nil {
			if !path.IsAbs(real) {
				real = path.Join(dir, path.Dir(f), real)
			}
			all = append(all, path.Dir(real))
		}
	}
	return all
}
