package recursor

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// own gives a file or directory to the account that Unbound changes to.
func (c Config) own(path string) error {
	if c.user() == "" || os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(c.user())
	if err != nil {
		return &hinted{fmt.Errorf("account %q for Unbound: %w", c.user(), err), "make it, or give another by --recursor-user"}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("account %q for Unbound has the number %q: %w", c.user(), u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("account %q for Unbound has the group %q: %w", c.user(), u.Gid, err)
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, c.user(), err)
	}
	return nil
}
