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

// Of a hundred values the 99th percentile is the slowest but one.
func TestQuantile(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64(i+1))
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
