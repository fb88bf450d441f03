package cni

import (
	"strings"

	"fairlead.dev/fairlead/internal/world"
)

// Adopt takes in the wires that the kernel holds and no record tells of, because it
// cannot be read or is not there. All that is known of such an attachment are its
// wire and addresses: they are kept until the runtime ends it or the kernel takes
// the wire along. It returns those that are new. Wire names the wire of an attachment.
func (b *Book) Adopt(wires []*world.Attachment, wire func(containerID, ifname string) string) []*world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wire = wire
	key := map[string]string{} // by wire
	for k := range b.damaged {
		key[b.wireOf(k)] = k
	}
	for k, r := range b.list {
		if !r.Chained {
			key[b.wireOf(k)] = k
		}
	}
	var out []*world.Attachment
	for _, found := range wires {
		r := &record{Attachment: *found}
		if r.ContainerID, r.Interface, _ = strings.Cut(key[found.Wire], "@"); r.ContainerID == "" {
			r.ContainerID = found.Wire
		}
		if b.list[r.Key()] == nil {
			b.list[r.Key()] = r
			out = append(out, &r.Attachment)
		}
	}
	if len(out) > 0 {
		b.changed()
	}
	return out
}

func (b *Book) wireOf(key string) string {
	id, ifname, _ := strings.Cut(key, "@")
	return b.wire(id, ifname)
}

// known is the key under which the book has an attachment: of one whose record is
// not even there, only the wire is known.
func (b *Book) known(key string) string {
	if b.list[key] == nil && b.wire != nil {
		if lost := (&world.Attachment{ContainerID: b.wireOf(key)}).Key(); b.list[lost] != nil {
			return lost
		}
	}
	return key
}
