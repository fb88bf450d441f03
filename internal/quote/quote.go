// Package quote puts into sentences what somebody outside wrote: tenants, peers,
// people, the kernel. However long that is, what is told of it has a bound, is one
// line, shows what cannot be seen, and says that it was cut.
package quote

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

// How much is told, in bytes. A value is something inside a sentence.
const (
	Value    = 64
	Sentence = 1024
)

// Of is s in double quotes, cut where it is longer than a Value:
// "a few letters…" (of 250000 bytes).
func Of(s string) string {
	if len(s) <= Value && plain(s) && !strings.ContainsAny(s, `"\`) {
		return `"` + s + `"`
	}
	start, cut := visible(s, '"', Value)
	if cut {
		return `"` + start + `…" ` + of(s)
	}
	return `"` + start + `"`
}

// Text is s in at most so many bytes: what cannot be seen is escaped, and the end
// says whether anything was cut. Of what it returns it returns the same.
func Text(s string, most int) string {
	if len(s) <= most && plain(s) {
		return s
	}
	if all, cut := visible(s, 0, most); !cut {
		return all
	}
	end := "… " + of(s)
	start, _ := visible(s, 0, most-len(end))
	return start + end
}

// Errors is what an error says, as a Sentence: of errors that came together each
// follows on the other.
func Errors(err error) string {
	return Text(strings.ReplaceAll(err.Error(), "\n", "; "), Sentence)
}

// LogAttr keeps lines of a log short: it is an slog.HandlerOptions.ReplaceAttr.
func LogAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		return slog.String(a.Key, Text(v, Sentence))
	case error:
		return slog.String(a.Key, Errors(v))
	case fmt.Stringer:
		if a.Value.Kind() == slog.KindAny {
			return slog.String(a.Key, Text(v.String(), Sentence))
		}
	}
	return a
}

func of(s string) string { return fmt.Sprintf("(of %d bytes)", len(s)) }

// plain reports whether all of s can be seen as it is.
func plain(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) { // also where bytes are no rune
			return false
		}
	}
	return true
}

// visible is as much of s as takes at most so many bytes once what cannot be seen,
// and the mark that ends it, are escaped; and whether that is less than all.
func visible(s string, mark rune, most int) (start string, cut bool) {
	var out strings.Builder
	for left := s; left != ""; {
		r, n := utf8.DecodeRuneInString(left)
		next := left[:n]
		if r == utf8.RuneError || !strconv.IsPrint(r) || mark != 0 && (r == mark || r == '\\') {
			next = strconv.Quote(next)
			next = next[1 : len(next)-1]
		}
		if out.Len()+len(next) > most {
			return out.String(), true
		}
		out.WriteString(next)
		left = left[n:]
	}
	return out.String(), false
}
