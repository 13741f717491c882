package api

import (
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/api/answer"
)

// Codes of answer.Refused; what they mean is said in answer.thrift. Append only.
const (
	Invalid      = "invalid"
	Exists       = "exists"
	AddressTaken = "address_taken"
	NotFound     = "not_found"
	Unavailable  = "unavailable"
	TooMany      = "too_many"
	Timeout      = "timeout"
	Denied       = "denied"
	Conflict     = "conflict"
	Changed      = "changed"
	Unapproved   = "unapproved"
)

// Refuse makes the exception a handler returns. hint may be empty.
func Refuse(code, hint, format string, args ...any) *answer.Refused {
	return &answer.Refused{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Code is the code of a refusal in err's chain, "" when there is none.
func Code(err error) string {
	var r *answer.Refused
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// Message is err for people: of a refusal its message alone, since its Error
// method is generated and prints the struct.
func Message(err error) string {
	var r *answer.Refused
	if errors.As(err, &r) {
		return r.Message
	}
	return err.Error()
}

// Hint is the hint of a refusal in err's chain; it may be empty.
func Hint(err error) string {
	var r *answer.Refused
	if errors.As(err, &r) {
		return r.Hint
	}
	return ""
}
