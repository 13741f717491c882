package main

import (
	"bytes"
	"strings"
	"testing"
)

// A reason is anybody's text: it moves no cursor and begins no line.
func TestForeignTextIsShownPlain(t *testing.T) {
	var out bytes.Buffer
	evil := "x\n\nwins     www.example.net.\x1b[2J\u202e\u009b"
	s := &session{}
	s.writeClaim(&out, &claimView{Verdict: "loses", Source: "zone/a", Place: evil, Author: evil, Reason: evil, Rule: evil, Revision: evil})
	if strings.ContainsAny(out.String(), "\x1b\u202e\u009b") || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("printed:\n%q", out.String())
	}
	if got := plain("Zürich, 東京 – ok"); got != "Zürich, 東京 – ok" {
		t.Errorf("got %q", got)
	}
}
