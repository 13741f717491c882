package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress is one line on a terminal that says how far long work is; elsewhere it
// is silent. It is drawn at most every redraw, and only by its owner's goroutine.
type progress struct {
	w     io.Writer // nil: silent
	label string
	drawn time.Time
}

const redraw = 100 * time.Millisecond

func (s *session) progress(label string) *progress { return newProgress(s.err, label) }

func newProgress(w io.Writer, label string) *progress {
	if !isTerminal(w) {
		w = nil
	}
	return &progress{w: w, label: label, drawn: time.Now()}
}

// set says that n of total are done; total 0 means that nobody knows how many.
func (p *progress) set(n, total int) {
	if p.w == nil || time.Since(p.drawn) < redraw {
		return
	}
	p.drawn = time.Now()
	if total == 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s  %d", p.label, n)
		return
	}
	const width = 30
	full := min(n*width/total, width)
	fmt.Fprintf(p.w, "\r\x1b[K%s  [%s%s] %d/%d", p.label, strings.Repeat("#", full), strings.Repeat(".", width-full), n, total)
}

// done wipes the line.
func (p *progress) done() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
