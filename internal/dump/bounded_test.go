package dump

import (
	"io"
	"strings"
	"testing"
)

// endless is a beginning, and then the same again and again.
type endless struct{ left, again string }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == "" {
		e.left = strings.Repeat(e.again, 10_000)
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// Whatever comes, there is an end to what is read of it.
func TestReadingHasAnEnd(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"{},", "a long text "} {
		_, err := io.Copy(io.Discard, &bounded{from: &endless{"", again}})
		if err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%q without an end: %v", again, err)
		}
	}
	if _, err := Read(&endless{`{"version": 1, "world": {"Services": {"List": [`, "{},"}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a list without an end: %v", err)
	}
}
