package follow

import (
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

const (
	// serveRate, in octets a second, bounds how long a download may take: half of what a host
	// demands. serveGrace is added to it.
	serveRate  = minRate / 2
	serveGrace = time.Minute
	// retryAfter, in seconds, is what is told to who comes when all places are taken.
	retryAfter = 2
)

// ServeSnapshot answers a request with the snapshot that lies in dir as SnapshotFile says, ranges
// included, and tells whether it did. places has room for as many as may download at the same
// time. An error is the file's: the client has been told that it cannot be read.
func ServeSnapshot(w http.ResponseWriter, r *http.Request, dir string, id snapshot.ID, places chan struct{}) (bool, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method is not GET or HEAD", http.StatusMethodNotAllowed)
		return false, nil
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		http.Error(w, "too many downloads at the moment", http.StatusServiceUnavailable)
		return false, nil
	}
	f, err := os.Open(SnapshotFile(dir, id))
	var info os.FileInfo
	if err == nil {
		defer func() { _ = f.Close() }() // read only
		info, err = f.Stat()
	}
	if err != nil {
		http.Error(w, "the snapshot cannot be read", http.StatusInternalServerError)
		return false, err
	}
	// Content-addressed: what a name means never changes (RFC 8246).
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("ETag", etag(id))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	deadline := time.Now().Add(serveGrace + time.Duration(info.Size()/serveRate)*time.Second)
	_ = http.NewResponseController(w).SetWriteDeadline(deadline) // not all writers have one; then the server's holds
	http.ServeContent(w, r, "", time.Time{}, f)
	return true, nil
}
