package service

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// LogOptions says how the process logs. Its zero value is not valid: see
// DefaultLogOptions.
type LogOptions struct {
	// Level is the least that is logged: debug, info, warn or error, with an offset
	// such as info+2 if need be.
	Level slog.Level `option:"log-level" help:"least level that is logged: debug, info, warn, error"`
	// Format is text, json, or auto: text on a terminal, JSON otherwise.
	Format string `option:"log-format" help:"text, json, or auto: text on a terminal, JSON elsewhere"`
	// Source adds file and line of the call.
	Source bool `option:"log-source" help:"add the place in the code to each line"`
}

// DefaultLogOptions logs from info on, as suits the output.
func DefaultLogOptions() LogOptions { return LogOptions{Level: slog.LevelInfo, Format: "auto"} }

// Validate refuses formats that do not exist.
func (o LogOptions) Validate() error {
	switch o.Format {
	case "text", "json", "auto":
		return nil
	}
	return Invalid("log-format", "text, json or auto")
}

// Logger logs to w as o says.
func (o LogOptions) Logger(w io.Writer) (*slog.Logger, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("make logger: %w", err)
	}
	h := slog.HandlerOptions{Level: o.Level, AddSource: o.Source, ReplaceAttr: readable}
	if o.Format == "text" || o.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, &h)), nil
	}
	return slog.New(slog.NewJSONHandler(w, &h)), nil
}

// readable writes a duration as 1.2s also in JSON, where slog has a number of
// nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
