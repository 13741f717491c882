package tree

import "fmt"

// ConfigHeadPath is the path of the ConfigHead. Names that start with "@" belong to
// the tree itself; no configuration has one.
const ConfigHeadPath = Config + "@head"

// ConfigStagedPrefix is the prefix of what of a large landing is not copied yet.
const ConfigStagedPrefix = Config + "@staged/"

// ConfigPath is the path of a configuration.
func ConfigPath(path string) string { return Config + path }

// ConfigStagedPath is the path of a chunk of the landing called version.
func ConfigStagedPath(version uint64, n int) string {
	return fmt.Sprintf("%s%020d/%06d", ConfigStagedPrefix, version, n)
}

// ConfigPartPath is the path of a part of the value with this SHA-256. Parts are not
// below Config: who follows configurations is not sent values, but gets those it needs.
func ConfigPartPath(sha256 string, n int) string {
	return fmt.Sprintf("/configparts/%s/%06d", sha256, n)
}

// ConfigMarkPath is the path of the ConfigMark of a value.
func ConfigMarkPath(sha256 string) string { return ConfigMarks + sha256 }

// ConfigHead is the newest landing of configurations. It is put by every one of them.
type ConfigHead struct {
	// Version numbers the landing: unix milliseconds of it, or one more than that of the
	// landing before if that is greater.
	Version uint64 `json:"version"`
	// Revision is that of the source repository up to which everything is here.
	Revision string `json:"revision"`
	Time     int64  `json:"time_ms"`
	// Staged is how many chunks below ConfigStagedPrefix stand above the nodes of the
	// configurations: a landing too large for one transaction. Zero: none.
	Staged int `json:"staged,omitempty"`
}

// ConfigEntry is one configuration, without its value.
type ConfigEntry struct {
	Type string `json:"type"` // of the IDL, file.Type
	// Version is the landing that brought this value, Revision that of the source
	// repository at which it was made.
	Version  uint64 `json:"version"`
	Revision string `json:"revision"`
	// Sources are files it was made from; More is how many others there are.
	Sources []string `json:"sources"`
	More    int      `json:"more,omitempty"`
	Size    int      `json:"size"`   // octets of the value
	SHA256  string   `json:"sha256"` // of the value, hex
}

// ConfigMark says that the parts of a value may belong to no configuration.
type ConfigMark struct {
	Size int `json:"size"` // octets of the value
}
