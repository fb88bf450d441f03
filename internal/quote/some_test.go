package quote_test

import (
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/quote"
)

func TestOfManyThingsAFewAreNamed(t *testing.T) {
	many := slices.Repeat([]string{"n"}, 5000)
	for _, tt := range []struct {
		things []string
		all    int
		want   string
	}{
		{nil, 0, ""},
		{many[:1], 1, "n"},
		{many[:2], 2, "n and n"},
		{many[:8], 8, "n, n, n, n, n, n, n and n"},
		{many[:9], 9, "n, n, n, n, n, n, n, n and 1 more"},
		{many, 5000, "n, n, n, n, n, n, n, n and 4992 more"},
		{many[:2], 7, "n, n and 5 more"},
	} {
		if got := quote.Some(tt.things, tt.all); got != tt.want {
			t.Errorf("%d of %d: %q, want %q", len(tt.things), tt.all, got, tt.want)
		}
	}
}
