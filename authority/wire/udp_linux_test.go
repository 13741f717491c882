package wire

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestThreadsThatAnswerGoFirst looks at what the kernel says of a thread: with the right
// to, and without it.
func TestThreadsThatAnswerGoFirst(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_SYS_NICE")
	}
	for _, may := range []bool{true, false} {
		done := make(chan struct{})
		go func() { // its thread ends with it: it is not given back
			defer close(done)
			runtime.LockOSThread()
			if !may {
				h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				var caps [2]unix.CapUserData
				if err := unix.Capget(&h, &caps[0]); err != nil {
					t.Error(err)
					return
				}
				caps[0].Effective &^= 1 << unix.CAP_SYS_NICE
				if err := unix.Capset(&h, &caps[0]); err != nil {
					t.Error(err)
					return
				}
			}
			before, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Error(err)
				return
			}
			beQuick()
			after, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Error(err)
				return
			}
			want := before.Nice
			if may {
				want = max(want-ahead, -20)
			}
			if after.Nice != want {
				t.Errorf("with the right %v: nice value %d, want %d", may, after.Nice, want)
			}
			if after.Runtime != before.Runtime && after.Runtime != uint64(slice) {
				t.Errorf("with the right %v: slice is %d ns, want %d", may, after.Runtime, uint64(slice))
			}
		}()
		<-done
	}
}
