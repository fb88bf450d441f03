package gate_test

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// A ring is one of a packet socket (packet_mmap) with one frame, of which all behind
// the Ethernet header stays in pages that its sender can write to.
type ring struct {
	socket, index int
	frame         []byte // the memory of the frame, behind what the kernel is told of it
	memory        []byte
}

func newRing(link string) (*ring, error) {
	s, err := packetSocket(link, 0)
	if err != nil {
		return nil, err
	}
	const size, data = 1 << 12, 32 // TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)
	err = errors.Join(unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
		unix.SetsockoptTpacketReq(s, unix.SOL_PACKET, unix.PACKET_TX_RING, &unix.TpacketReq{Block_size: size, Block_nr: 1, Frame_size: size, Frame_nr: 1}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(s))
	}
	memory, err := unix.Mmap(s, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(err, unix.Close(s))
	}
	return &ring{s, indexOf(link), memory[data:], memory}, nil
}

func (r *ring) send(frame []byte) error {
	copy(r.frame, frame)
	binary.NativeEndian.PutUint32(r.memory[4:], uint32(len(frame)))
	binary.NativeEndian.PutUint32(r.memory, unix.TP_STATUS_SEND_REQUEST)
	return unix.Sendto(r.socket, nil, 0, &unix.SockaddrLinklayer{Ifindex: r.index})
}

func (r *ring) close() error { return errors.Join(unix.Munmap(r.memory), unix.Close(r.socket)) }
