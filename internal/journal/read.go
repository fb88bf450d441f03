package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Found is what a journal holds.
type Found struct {
	Values []Value  // in the order in which they were written
	Lost   []Damage // lines that cannot be read and that no later one replaces
	Torn   bool     // the last line was not written to its end: nobody acted upon it

	lines int
	size  int64
}

// A Damage is a line that cannot be read, and the name of its value where that is known.
type Damage struct {
	Line      int // 0: it is none that is there, or one that can be read and says nothing
	Kind, Key string
	Why       string
}

// Named reports whether it is known which value is lost.
func (d Damage) Named() bool { return d.Kind != "" }

// String says what is lost.
func (d Damage) String() string {
	switch {
	case !d.Named() && d.Line == 0:
		return d.Why
	case !d.Named():
		return fmt.Sprintf("line %d: %s", d.Line, d.Why)
	case d.Line == 0:
		return fmt.Sprintf("%s %s: %s", d.Kind, d.Key, d.Why)
	}
	return fmt.Sprintf("line %d, %s %s: %s", d.Line, d.Kind, d.Key, d.Why)
}

// mostUnnamed bounds the list of damages whose values are not known.
const mostUnnamed = 100

// Open reads the journal at the path, which is a fs.ErrNotExist where there is none.
// What is written to it afterwards follows what was read, unless something is lost: then
// the file is written anew.
func Open(path string, disk Disk) (*Journal, Found, error) {
	j := &Journal{Path: path, Disk: disk}
	f, err := os.Open(path)
	if err != nil {
		return j, Found{}, err
	}
	defer f.Close()
	found, err := read(f)
	if err != nil {
		return j, Found{}, err
	}
	j.begun = !found.Torn && len(found.Lost) == 0
	j.size, j.lines, j.live = found.size, found.lines, len(found.Values)
	return j, found, nil
}

type name struct{ kind, key string }

// A reader collects what lines say.
type reader struct {
	Found
	last map[name]int // line of each value that there is
	at   map[int]Value
	lost map[name]Damage
	good bool // a line was as it had been written
}

func read(from io.Reader) (Found, error) {
	r := reader{last: map[name]int{}, at: map[int]Value{}, lost: map[name]Damage{}}
	lines := bufio.NewReaderSize(from, mostLine)
	var h head
	for n := 0; ; n++ {
		line, length, err := next(lines)
		r.size += int64(length)
		if errors.Is(err, io.EOF) {
			r.Torn = length > 0
			r.lines = max(0, n-1)
			break
		}
		if err != nil {
			return Found{}, err
		}
		if n > 0 {
			r.take(n, line)
			continue
		}
		var ok bool
		if h, ok, err = parseHead(line); err != nil {
			return Found{}, err
		}
		if r.good = ok; !ok {
			r.unnamed(1, "it cannot be read")
		}
	}
	if !r.good {
		return Found{}, errors.New("it is no journal")
	}
	if r.lines < h.lines {
		r.unnamed(0, fmt.Sprintf("%d of its %d lines are missing", h.lines-r.lines, h.lines))
	}
	return r.found(), nil
}

// next is the next line without its end, which is nil where it is too long, and how many
// bytes it took. The last is io.EOF, with as many bytes as stand there without an end.
func next(from *bufio.Reader) (line []byte, length int, err error) {
	line, err = from.ReadSlice('\n')
	length = len(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		var more []byte
		more, err = from.ReadSlice('\n')
		length, line = length+len(more), nil
	}
	return bytes.TrimSuffix(line, []byte("\n")), length, err
}

// take takes line n into account, of which the head is 0.
func (r *reader) take(n int, line []byte) {
	v, why := parse(line)
	id := name{v.Kind, v.Key}
	if v.Kind == "" {
		r.unnamed(n+1, why)
		return
	}
	if before, there := r.last[id]; there {
		delete(r.at, before)
		delete(r.last, id)
	}
	delete(r.lost, id)
	if why != "" {
		r.lost[id] = Damage{n + 1, v.Kind, v.Key, why}
		return
	}
	r.good = true
	if v.JSON != nil {
		r.last[id], r.at[n] = n, v
	}
}

func (r *reader) unnamed(line int, why string) {
	if len(r.Lost) < mostUnnamed {
		r.Lost = append(r.Lost, Damage{Line: line, Why: why})
	}
}

func (r *reader) found() Found {
	out := r.Found
	for _, n := range slices.Sorted(maps.Keys(r.at)) {
		out.Values = append(out.Values, r.at[n])
	}
	out.Lost = slices.AppendSeq(out.Lost, maps.Values(r.lost))
	slices.SortFunc(out.Lost, func(a, b Damage) int { return a.Line - b.Line })
	return out
}

// Say is a sentence of what is lost; the first few are named.
func Say(lost []Damage) string {
	const few = 5
	var words []string
	for _, d := range lost[:min(few, len(lost))] {
		words = append(words, d.String())
	}
	if more := len(lost) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}
