package snapshot

import (
	"fmt"
	"os"
	"strings"
)

// Report is what Check found out about a snapshot file.
type Report struct {
	Path    string
	ID      ID
	Size    int64 // octets
	Dataset string
	Content uint64 // last version that changed more than freshness records
	RRsets  int
	Zones   int
	Blocks  int
	Raw     int64 // octets of the blocks, decompressed
	Digest  Digest
}

// Check reads the whole snapshot file at path as Read does, but for what only a
// Ref can tell, and reports. The error names offset, expected and found; the
// report then has what was read before.
func Check(path string) (Report, error) {
	report := Report{Path: path}
	if err := report.fill(); err != nil {
		return report, fmt.Errorf("check snapshot %s: %w", path, err)
	}
	return report, nil
}

func (r *Report) fill() error {
	file, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	r.Size = info.Size()
	if r.ID, err = idOf(file, r.Size); err != nil {
		return err
	}
	f, err := openFile(file, r.Size)
	if err != nil {
		return err
	}
	r.Dataset, r.Content, r.Digest = f.dataset, f.footer.content, f.footer.digest
	r.RRsets, r.Zones, r.Blocks, r.Raw = f.footer.rrsets, f.footer.zones, f.footer.blocks, f.footer.raw
	_, err = f.load(anyVersion)
	return err
}

// String is the report for people, one fact a line.
func (r Report) String() string {
	var sb strings.Builder
	for _, line := range []struct {
		what  string
		value any
	}{
		{"file", r.Path},
		{"id", r.ID},
		{"octets", r.Size},
		{"dataset", r.Dataset},
		{"content version", r.Content},
		{"RRsets", r.RRsets},
		{"zones", r.Zones},
		{"blocks", r.Blocks},
		{"octets raw", r.Raw},
		{"digest", r.Digest},
	} {
		fmt.Fprintf(&sb, "%-16s %v\n", line.what, line.value)
	}
	return sb.String()
}
