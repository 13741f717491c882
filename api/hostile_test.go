package api_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
)

// Peers that announce large calls and do not send them keep nobody else from
// being served.
func TestAnnouncedCallsAreInNobodysWay(t *testing.T) {
	s := serve(t, func(c *api.ServerConfig) { c.MaxFrame, c.MaxInFlight = 1<<20, 4<<20 })
	for range 8 {
		c := rawDial(t, s.addr)
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond) // the announcements have been read, or the test is easier to pass
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := dial(t, s.addr).Registry.GetServer(ctx, "web1.example.net"); err != nil {
		t.Error(err)
	}
}
