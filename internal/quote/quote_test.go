package quote_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"fairlead.dev/fairlead/internal/quote"
)

func TestAValueIsQuotedAndCut(t *testing.T) {
	for _, tt := range []struct{ name, s, want string }{
		{"nothing", "", `""`},
		{"a word", "yes", `"yes"`},
		{"a long one that fits", strings.Repeat("a", quote.Value), `"` + strings.Repeat("a", quote.Value) + `"`},
		{"one that does not", strings.Repeat("a", 250_000), `"` + strings.Repeat("a", quote.Value) + `…" (of 250000 bytes)`},
		{"runes stay whole", strings.Repeat("ü", 100), `"` + strings.Repeat("ü", quote.Value/2) + `…" (of 200 bytes)`},
		{"what cannot be seen", "a\x1b[2J\n\u202eb", `"a\x1b[2J\n\u202eb"`},
		{"what is no text", "a\xff\xfeb", `"a\xff\xfeb"`},
		{"what ends the quotes", `a" and \`, `"a\" and \\"`},
		{"escaped, it is too long", strings.Repeat("\x00", 20), `"` + strings.Repeat(`\x00`, 16) + `…" (of 20 bytes)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := quote.Of(tt.s); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestATextIsOneShortLine(t *testing.T) {
	for _, tt := range []struct{ name, s, want string }{
		{"nothing", "", ""},
		{"a sentence", "all is well: 100 %", "all is well: 100 %"},
		{"its own quotes and backslashes stay", `"a\n" is no word`, `"a\n" is no word`},
		{"a line more", "one\ntwo", `one\ntwo`},
		{"a long one", strings.Repeat("a", 100), strings.Repeat("a", 40-len("… (of 100 bytes)")) + "… (of 100 bytes)"},
		{"of long runes", strings.Repeat("語", 50), strings.Repeat("語", 7) + "… (of 150 bytes)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := quote.Text(tt.s, 40); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A log has one short line of each attribute, whatever it is.
func TestALogIsCut(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: quote.LogAttr}))
	long := strings.Repeat("x", 1<<20)
	log.Info(long, "n", 7, "text", long, "error", errors.Join(errors.New("first"), errors.New(long)))
	if n := out.Len(); n > 4*quote.Sentence {
		t.Errorf("a line of %d bytes", n)
	}
	if s := out.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "first; xxx") || !strings.Contains(s, "n=7 ") {
		t.Errorf("the line is %.3000s", s)
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "a\xffb", "\x00\u2028", strings.Repeat("語", 99), `"\`, "…"} {
		f.Add(s, 48)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = max(48, most%4096)
		text := quote.Text(s, most)
		if len(text) > most || !seen(text) {
			t.Errorf("Text(%q, %d) = %q, of %d bytes", s, most, text, len(text))
		}
		if again := quote.Text(text, most); again != text {
			t.Errorf("Text(%q) once more is %q", text, again)
		}
		if seen(s) && len(s) <= most && text != s {
			t.Errorf("Text(%q, %d) = %q", s, most, text)
		}
		value := quote.Of(s)
		if len(value) > quote.Value+40 || !seen(value) {
			t.Errorf("Of(%q) = %q, of %d bytes", s, value, len(value))
		}
		if len(strconv.Quote(s)) <= quote.Value+2 && value != strconv.Quote(s) {
			t.Errorf("Of(%q) = %s", s, value)
		}
	})
}

func seen(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) < 0
}
