package tree

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Sample is what a host was asked lately: questions drawn at random, each as likely as
// another. It has no clients.
type Sample struct {
	From    int64 `json:"from_ms"` // unix milliseconds: it is drawn from what came from then
	To      int64 `json:"to_ms"`   // until then
	Queries int64 `json:"queries"` // about how many came
	Drawn   int64 `json:"drawn"`   // how many were drawn: the sum of Times
	// Questions are those drawn, the same ones joined, the most frequent first.
	Questions []SampleQuestion `json:"questions"`
}

// SampleQuestion is a question of a Sample. In JSON it is a string of four words:
// "12 nxdomain A www.example.net.".
type SampleQuestion struct {
	Times int    // how often it was drawn, at least once
	Was   string // what came of it last: protocol.Outcome as text
	Type  record.Type
	Name  record.Name
}

// MarshalText implements encoding.TextMarshaler.
func (q SampleQuestion) MarshalText() ([]byte, error) {
	return []byte(strconv.Itoa(q.Times) + " " + q.Was + " " + q.Type.String() + " " + q.Name.String()), nil
}

// maxTimes bounds SampleQuestion.Times: what others wrote is added up.
const maxTimes = 1 << 30

// UnmarshalText reads what MarshalText writes.
func (q *SampleQuestion) UnmarshalText(b []byte) error {
	words := strings.Split(string(b), " ")
	if len(words) != 4 {
		return fmt.Errorf("question %.80q has %d words, expected 4: times, outcome, type, name", b, len(words))
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 1 || n > maxTimes {
		return fmt.Errorf("question %.80q was drawn %.20q times, expected 1 to %d", b, words[0], maxTimes)
	}
	if !isWord(words[1]) {
		return fmt.Errorf("question %.80q has the outcome %.20q, expected a word in lower case", b, words[1])
	}
	t, err := record.ParseType(words[2])
	if err != nil {
		return fmt.Errorf("question %.80q: %w", b, err)
	}
	name, err := record.ParseName(words[3])
	if err != nil {
		return fmt.Errorf("question %.80q: %w", b, err)
	}
	*q = SampleQuestion{n, words[1], t, name}
	return nil
}

func isWord(s string) bool {
	for _, c := range []byte(s) {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 20
}
