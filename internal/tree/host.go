package tree

import "slices"

// TrustPath is the path of a host's Trust, TrustPrefix the prefix of all of a dataset.
func TrustPath(dataset, host string) string { return TrustPrefix(dataset) + host }

// TrustPrefix: see TrustPath.
func TrustPrefix(dataset string) string { return Trusts + dataset + "/" }

// HostPath is the path of a host's node.
func HostPath(name string) string { return Hosts + name }

// Host says what one DNS host has, verified, and answers.
type Host struct {
	Name     string                 `json:"name"`
	DNS      string                 `json:"dns"`  // address:port it answers on
	HTTP     string                 `json:"http"` // metrics and status; may be empty
	Datasets map[string]HostDataset `json:"datasets"`
	// Carries are the datasets that it is to answer, in order; none: it does not say, as those
	// that can have only one.
	Carries []string `json:"carries,omitempty"`
	// Labels are KEY=VALUE: rings name hosts by them.
	Labels  []string `json:"labels,omitempty"`
	Refused string   `json:"refused,omitempty"` // last thing it refused, and why
	// Alarms is what a person should look at though the host serves: a manifest past its
	// time, clocks that differ, a key that is revoked and still signs what is served.
	Alarms []string `json:"alarms,omitempty"`
}

// Carry tells whether the host is to answer a dataset.
func (h *Host) Carry(dataset string) bool {
	return len(h.Carries) == 0 || slices.Contains(h.Carries, dataset)
}

// Trust says whom a host believes, and by whose word it has what it has. It is ephemeral.
type Trust struct {
	Host     string       `json:"host"`
	Believed []string     `json:"believed"` // ids of keys
	Revoked  []RevokedKey `json:"revoked,omitempty"`
	// SignedBy are the ids of the keys that signed what its journal has; none: it has nothing.
	SignedBy []string `json:"signed_by,omitempty"`
}

// RevokedKey is a key that a host knows and does not believe any more.
type RevokedKey struct {
	ID   string `json:"id"`
	Void bool   `json:"void,omitempty"` // what it signed before is void as well
	Why  string `json:"why"`
}

// HostDataset is a host's state of one dataset. The numbers are those the
// authority serves, not what is still on the way to it.
type HostDataset struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
	Time    int64  `json:"time_ms"`  // Delta.Time of that version
	Since   int64  `json:"since_ms"` // when the host began to answer it
	// SignedBy are the ids of the keys that signed it; none: it is not known.
	SignedBy []string `json:"signed_by,omitempty"`
	// Direct are the overrides that operators put on top of it, on this host.
	Direct []DirectState `json:"direct,omitempty"`
	// Trial is what the host tries on top of the dataset; nil: nothing.
	Trial *TrialState `json:"trial,omitempty"`
}

// TrialState is a trial as a host has it.
type TrialState struct {
	ID     string `json:"id"`
	Number uint64 `json:"number"`
	Since  int64  `json:"since_ms"` // the host answers it
	// Refused is why it is not answered; empty when it is.
	Refused string `json:"refused,omitempty"`
	// Before is what the host answered in the minutes before, After since.
	Before Tally `json:"before"`
	After  Tally `json:"after"`
}

// Tally is what a host answered in some time.
type Tally struct {
	Milliseconds int64  `json:"ms"`
	Answers      uint64 `json:"answers"`
	Servfail     uint64 `json:"servfail"`
	NXDomain     uint64 `json:"nxdomain"`
	CPU          int64  `json:"cpu_us"` // processor time of the authority, microseconds
}

// DirectState is an override that an operator handed to a host, as the host has it.
type DirectState struct {
	ID       string `json:"id"`
	Owner    string `json:"owner"`
	Type     string `json:"type"`
	Operator string `json:"operator"`
	Until    int64  `json:"until_ms"`
	// Refused is why it is not answered; empty when it is.
	Refused string `json:"refused,omitempty"`
}
