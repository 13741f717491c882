package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// exitBroken is the exit status of a server that could not go on.
const exitBroken = 3

// zapLogger gives etcd a logger that writes to log: errors as errors, warnings
// (mostly "took too long") at debug level, nothing below. When etcd wants to panic
// or exit, the process exits with one line that says why and what to do instead of
// a page of goroutines.
//
// Once ctx has ended errors are at debug level as well: etcd complains of each
// connection that is closed then.
func zapLogger(ctx context.Context, log *slog.Logger, dir string) *zap.Logger {
	exit := exitHook{dir: dir}
	return zap.New(bridge{log: log, stopping: ctx.Done()}, zap.WithPanicHook(exit), zap.WithFatalHook(exit))
}

// bridge is a zapcore.Core over slog.
type bridge struct {
	log      *slog.Logger
	stopping <-chan struct{}
}

func (b bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (b bridge) With(fields []zapcore.Field) zapcore.Core {
	return bridge{log: slog.New(b.log.Handler().WithAttrs(attrs(fields))), stopping: b.stopping}
}

func (b bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return c.AddCore(e, b)
	}
	return c
}

func (b bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelError
	if e.Level == zapcore.WarnLevel {
		level = slog.LevelDebug
	}
	select {
	case <-b.stopping:
		level = slog.LevelDebug
	default:
	}
	b.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs(fields)...)
	return nil
}

func (b bridge) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}

// exitHook ends the process in place of zap's panic and exit.
type exitHook struct {
	dir string
}

func (h exitHook) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	exit(h.dir, e.Message, fields)
}

func exit(dir, message string, fields []zapcore.Field) {
	fmt.Fprintln(os.Stderr, lastWords(dir, message, fields))
	os.Exit(exitBroken)
}

// lastWords is the line with which a server ends that cannot go on.
func lastWords(dir, message string, fields []zapcore.Field) string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "store in %s: %s", dir, message)
	for _, a := range attrs(fields) {
		if a.Key == "error" {
			fmt.Fprintf(&sb, ": %v", a.Value)
		} else if a.Key == "path" {
			fmt.Fprintf(&sb, " (%v)", a.Value)
		}
	}
	fmt.Fprintf(&sb, ": %s", hintFor(sb.String(), dir))
	return sb.String()
}
