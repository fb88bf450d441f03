package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"fairlead.dev/fairlead/internal/quote"
)

// A line is KIND KEY SUM TIME JSON SUM, with one space between them. The first checksum
// is that of kind and key alone, so that a damaged line tells whose value it was; the
// second covers all before it. A value that is no more has "-" in the place of JSON.
// Before all of them stands the head: a name, a version, how many lines were written
// with it, and a checksum.

// mostLine bounds a line, its end included.
const mostLine = 1 << 16

const (
	magic   = "fairlead-journal"
	version = 1
	gone    = "-"
)

var table = crc32.MakeTable(crc32.Castagnoli)

// appendSum appends the checksum of b from i on.
func appendSum(b []byte, i int) []byte {
	return fmt.Appendf(b, " %08x", crc32.Checksum(b[i:], table))
}

// appendTo appends v's line to b.
func (v Value) appendTo(b []byte) ([]byte, error) {
	if !isWord(v.Kind) || !isWord(v.Key) {
		return b, fmt.Errorf("%s %s is no name of a value", quote.Of(v.Kind), quote.Of(v.Key))
	}
	start := len(b)
	b = append(append(append(b, v.Kind...), ' '), v.Key...)
	b = append(appendSum(b, start), ' ')
	var at int64
	if !v.At.IsZero() {
		at = v.At.Unix()
	}
	b = append(strconv.AppendInt(b, at, 10), ' ')
	if v.JSON == nil {
		b = append(b, gone...)
	} else {
		b = append(b, v.JSON...)
	}
	b = append(appendSum(b, start), '\n')
	if len(b)-start > mostLine || bytes.IndexByte(b[start:len(b)-1], '\n') >= 0 {
		return b[:start], fmt.Errorf("%s %s is no value of one line of %d bytes at most", v.Kind, v.Key, mostLine)
	}
	return b, nil
}

// isWord reports whether s is a word of printable ASCII.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// parse is the value of a line without its end. Where the line is damaged, the value has
// the name that it had, as far as that is known.
func parse(line []byte) (Value, string) {
	kind, rest, _ := bytes.Cut(line, []byte(" "))
	key, rest, ok := bytes.Cut(rest, []byte(" "))
	names := len(kind) + 1 + len(key)
	if !ok || len(rest) < 9 || !isWord(string(kind)) || !isWord(string(key)) || !bytes.HasPrefix(line[names:], appendSum(line[:names:names], 0)[names:]) {
		return Value{}, "it cannot be read"
	}
	v := Value{Kind: string(kind), Key: string(key)}
	end := len(line) - 9
	if end < names+9 || string(appendSum(line[:end:end], 0)[end:]) != string(line[end:]) {
		return v, "its checksum is wrong"
	}
	_, rest, _ = bytes.Cut(line[names+1:end], []byte(" "))
	at, value, ok := bytes.Cut(rest, []byte(" "))
	seconds, err := strconv.ParseInt(string(at), 10, 64)
	if !ok || err != nil || string(value) != gone && !json.Valid(value) {
		return v, "nobody wrote it"
	}
	if seconds != 0 {
		v.At = time.Unix(seconds, 0).UTC()
	}
	if string(value) != gone {
		v.JSON = bytes.Clone(value)
	}
	return v, ""
}

// ErrVersion says that a later release wrote a journal. It is whole, and to be left alone.
var ErrVersion = errors.New("it is of version")

// A head is the first line of a journal.
type head struct{ lines int }

func (h head) appendTo(b []byte) []byte {
	return append(appendSum(fmt.Appendf(b, "%s %d %d", magic, version, h.lines), len(b)), '\n')
}

// parseHead is the head in a line without its end. A head of another version is an error.
func parseHead(line []byte) (h head, ok bool, err error) {
	end := max(0, len(line)-9)
	if string(appendSum(line[:end:end], 0)[end:]) != string(line[end:]) {
		return h, false, nil
	}
	words := bytes.Split(line[:end], []byte(" "))
	if len(words) < 2 || string(words[0]) != magic {
		return h, false, nil
	}
	if string(words[1]) != strconv.Itoa(version) {
		return h, false, fmt.Errorf("%w %s, and this release knows %d", ErrVersion, quote.Of(string(words[1])), version)
	}
	if len(words) != 3 {
		return h, false, nil
	}
	h.lines, err = strconv.Atoi(string(words[2]))
	return h, err == nil && h.lines >= 0, nil
}
