package world

import "cmp"

// An Event is something that happened and that an operator may want to know of.
// What holds now is a Report; an Event is told and then is past.
type Event struct {
	Object  string // "Node n1"
	Type    EventType
	Reason  string // one CamelCase word
	Message string // what happened, and what to do about it
	// Subject tells apart what one object has several of: "tcp 198.51.100.10:443".
	// Events that differ in nothing but their message are one that happened again.
	Subject string
}

// EventType says whether an Event is trouble. The words are those of the
// Kubernetes API.
type EventType string

// The types of events.
const (
	Normal  EventType = "Normal"
	Warning EventType = "Warning"
)

// A Note is what an annotation of a pod should say; "": the pod should not have
// it.
type Note struct {
	Pod         *Pod
	Name, Value string
}

// CompareNotes orders notes by pod, and then by the annotation's name.
func CompareNotes(m, n Note) int {
	return cmp.Or(m.Pod.Compare(n.Pod.Key), cmp.Compare(m.Name, n.Name))
}
