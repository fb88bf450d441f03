package main

import "testing"

// Of fifteen values, the fourth and the twelfth bound the median (Conover,
// Practical Nonparametric Statistics, table A3: 3 below, confidence 0.965).
func TestIntervalOfFifteen(t *testing.T) {
	var values []float64
	for i := 15; i > 0; i-- {
		values = append(values, float64(i))
	}
	if got, want := estimateOf(values), (estimate{8, 4, 12}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Five values are too few for 95 %: the interval is all of them.
func TestIntervalOfFew(t *testing.T) {
	if got, want := estimateOf([]float64{5, 1, 4, 2, 3}), (estimate{3, 1, 5}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
