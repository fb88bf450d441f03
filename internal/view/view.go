// Package view is what an agent shows to those who ask it.
package view

import "io"

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

// A View is one kind of thing that people get from an agent, by its name.
type View struct {
	Name string
	// New is an empty answer.
	New func() Answer
	// Wide prints what more is known, below the answer's rows; nil: nothing is.
	Wide func(io.Writer, Answer) error
	// Flags are the flags of a question of its own, with their usage.
	Flags []Flag
	// Ask is that question: what to ask the agent for, and its empty answer.
	Ask func(flags map[string]string) (path string, answer Answer, err error)
}

// A Flag is one of the command line that takes a word.
type Flag struct{ Name, Usage string }

// An Answer is what an agent answers.
type Answer interface {
	Into() any // what to decode it into
	Rows() Rows
}

// Rows are an answer line by line.
type Rows struct {
	Header []string
	List   []Row
	None   string // what is said of an empty list
}

// A Row is one item of an answer.
type Row struct {
	Name  string   // of the item, in one word if it can be; what -o name prints
	Cells []string // below the header
	Item  any      // what -o json has of it
}
