package monitor

import (
	"encoding/json"
	"net/http"
)

// Handler serves the Report as JSON.
func (m *Monitor) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// The client may be gone: nobody is left to tell.
		_ = json.NewEncoder(w).Encode(m.Report())
	})
}
