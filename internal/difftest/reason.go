package difftest

import "context"

// compared is one question with the answers of ours and of a peer.
type compared struct {
	data         *dataset
	q            Question
	ours, theirs *response
	first        *response // of theirs, before it was asked on
	peer         *client
}

// reason names the rule by which the difference follows from the data; "" when none
// does.
func (c *compared) reason(ctx context.Context, d Difference) string {
	return ""
}
