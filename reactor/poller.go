package reactor

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is epoll and the eventfd that interrupts it.
//
// A descriptor is registered once, edge-triggered, for reading, writing and half-close together, and never modified:
// after a write that met EAGAIN no further system call is needed to learn of room, and an edge that is not waited for
// only sets a flag of its connection. The kernel reports room for writing only after a write has failed, so the
// permanent registration costs nothing.
type poller struct {
	epoll  int // -1 when not open
	wakeup int // the same
	ready  [256]unix.EpollEvent
}

// key is what an event carries back. A connection's is its ConnID, so that an event for a descriptor that has since
// been closed, or closed and reused, finds another generation in the slot and is dropped. Generation 0 belongs to the
// reactor itself.
type key uint64

const wakeKey key = 0

func listenerKey(index int) key { return key(index+1) << generationBits }

func (k key) internal() bool { return k<<(64-generationBits) == 0 }

// open leaves what it opened to close, also when it fails.
func (p *poller) open() (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if p.wakeup, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	return p.add(p.wakeup, wakeKey)
}

func (p *poller) close() {
	unix.Close(p.wakeup)
	unix.Close(p.epoll)
}

func (p *poller) add(fd int, k key) error {
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(k), Pad: int32(k >> 32),
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

// wake interrupts sleep. The counter is never read: each write gives an edge, and 64 bits do not overflow.
func (p *poller) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(p.wakeup, one[:]) // can't fail: the counter has room
}

// poll takes what is ready without waiting. It keeps the processor (RawSyscall), which is cheaper for a call that
// returns at once than telling the scheduler of it.
func (p *poller) poll() (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll),
		uintptr(unsafe.Pointer(&p.ready)), uintptr(len(p.ready)), 0, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, os.NewSyscallError("epoll_pwait", errno)
	}
	return int(n), nil
}

// sleep waits up to ms milliseconds, for ever when negative. A signal ends it early with nothing ready.
func (p *poller) sleep(ms int) (int, error) {
	n, err := unix.EpollWait(p.epoll, p.ready[:], ms)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, os.NewSyscallError("epoll_wait", err)
}

func (p *poller) event(i int) (key, uint32) {
	ev := &p.ready[i]
	return key(uint32(ev.Fd)) | key(uint32(ev.Pad))<<32, ev.Events
}

// read, write and writev act on non-blocking sockets, so they too return at once and keep the processor.

func read(fd int32, b []byte) (int, unix.Errno) {
	return transfer(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

func write(fd int32, b []byte) (int, unix.Errno) {
	return transfer(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

func writev(fd int32, v []unix.Iovec) (int, unix.Errno) {
	return transfer(unix.SYS_WRITEV, fd, unsafe.Pointer(unsafe.SliceData(v)), len(v))
}

func transfer(trap uintptr, fd int32, p unsafe.Pointer, n int) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(p), uintptr(n))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
