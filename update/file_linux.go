package update

import (
	"io/fs"
	"syscall"
	"time"
)

func (s *signature) system(info fs.FileInfo) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.changed = time.Unix(st.Ctim.Unix())
		s.device, s.inode = st.Dev, st.Ino
		s.uid, s.owned = st.Uid, true
	}
}
