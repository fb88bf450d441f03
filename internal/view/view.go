// Package view is what an agent shows to those who ask it.
package view

// APIVersion is that of the API, whose objects lists are like.
const APIVersion = "fairlead.dev/v1alpha1"

// A List is what is shown of one kind of thing, in the form of -o json.
type List[T any] struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Items      []T    `json:"items"`
}

// Of returns the items as a list.
func Of[T any](items ...T) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{APIVersion, "List", items}
}
