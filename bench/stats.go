package main

import (
	"math"
	"slices"
)

// An estimate is a median and the interval that holds the true one with a
// confidence of 95 % or more.
type estimate struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// confidence is that of every interval.
const confidence = 0.95

// estimateOf takes the interval from the order of the values: the chance that k
// or fewer of n values lie below the true median is a binomial one, whatever
// their distribution.
func estimateOf(values []float64) estimate {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return estimate{math.NaN(), math.NaN(), math.NaN()}
	}
	k, tail, term := 0, 0.0, math.Pow(0.5, float64(n)) // term: chance that exactly k lie below
	for tail+term <= (1-confidence)/2 {
		tail += term
		term *= float64(n-k) / float64(k+1)
		k++
	}
	k = max(k-1, 0)
	return estimate{median(v), v[k], v[n-1-k]}
}

// median is that of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is the value of which the share q of sorted values is not above it.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

// ratios divides pair by pair.
func ratios(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return out
}
