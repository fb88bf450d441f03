package feature

import (
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/world"
)

// Wire is the name of the node's end of an attachment's wire.
func Wire(a *world.Attachment) string {
	if a.Wire != "" {
		return a.Wire
	}
	return LinkName(a.ContainerID, a.Interface)
}

// LinkName is the name of the node's end of the wire of a container's interface.
func LinkName(containerID, ifname string) string {
	return datapath.LinkPrefix + world.ShortHash(containerID+"/"+ifname)
}

// PodMAC is the hardware address of the pod's end of an attachment's wire.
func PodMAC(containerID, ifname string) world.MAC {
	return world.HashMAC("pod " + containerID + "/" + ifname)
}
