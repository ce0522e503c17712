// mount.nfs4 of the local world's machines: a shared volume as a cell sees it, without an NFS client in the kernel.
//
// `mount -t nfs4 SERVER:/PATH DIRECTORY -o OPTIONS` runs it, whatever the server is called. It passes a directory of the
// world through FUSE, and behaves like EFS where that matters: no extended attributes, no device nodes, a deleted file is
// gone for those who have it open (ESTALE), each call takes a round trip. How far away, how narrow and how broken the
// volume is, a file says, which may change at any time; how much was read of it another one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	base     = "/run/kip-room/volume"
	server   = "KIP_VOLUME_SERVER" // set in the process that serves; the one that was called waits for it
	failed   = 32                  // mount(8): mount failure
	unknown  = 2 * time.Minute     // how long a mount tries to reach a server, as nfs(5) has it (retry)
	attempts = 50 * time.Millisecond
	cached   = 3 * time.Second // nfs(5): acregmin
	largest  = 1 << 20         // bytes of a read or write; EFS's rsize and wsize
)

// shape is what stands between the machine and the volume.
type shape struct {
	LatencyMs   float64 `json:"latencyMs"`   // of each call
	MiBPerS     float64 `json:"mibPerS"`     // of this machine; 0 is no limit
	Unreachable bool    `json:"unreachable"` // calls wait until it is false again (`hard`), mounting too
	Broken      bool    `json:"broken"`      // calls fail with EIO
}

// wire applies the shape to calls, and counts what was read.
type wire struct {
	mutex   sync.Mutex
	shape   shape
	looked  time.Time
	changed time.Time
	free    time.Time // when the bytes so far are through

	bytes, calls atomic.Int64
}

func (w *wire) current() shape {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if time.Since(w.looked) < 10*time.Millisecond {
		return w.shape
	}
	w.looked = time.Now()
	info, err := os.Stat(filepath.Join(base, "shape.json"))
	if err != nil {
		w.shape = shape{}
		return w.shape
	}
	if !info.ModTime().Equal(w.changed) {
		var read shape
		text, err := os.ReadFile(filepath.Join(base, "shape.json"))
		if err == nil && json.Unmarshal(text, &read) == nil {
			w.shape, w.changed = read, info.ModTime()
		}
	}
	return w.shape
}

// call waits for as long as a call with so many bytes takes; who waits for an unreachable server can be killed.
func (w *wire) call(ctx context.Context, size int) syscall.Errno {
	now := w.current()
	for now.Unreachable {
		select {
		case <-ctx.Done():
			return syscall.EINTR
		case <-time.After(10 * time.Millisecond):
		}
		now = w.current()
	}
	w.calls.Add(1)
	if now.Broken {
		return syscall.EIO
	}
	until := time.Now()
	if now.MiBPerS > 0 && size > 0 {
		w.mutex.Lock()
		if w.free.Before(until) {
			w.free = until
		}
		w.free = w.free.Add(time.Duration(float64(size) / (now.MiBPerS * (1 << 20)) * float64(time.Second)))
		until = w.free
		w.mutex.Unlock()
	}
	until = until.Add(time.Duration(now.LatencyMs * float64(time.Millisecond)))
	time.Sleep(time.Until(until))
	return 0
}

// tell keeps the counters in a file named after the machine.
func (w *wire) tell() {
	host, _ := os.Hostname()
	path := filepath.Join(base, "reads", host+".json")
	told := ""
	for ; ; time.Sleep(50 * time.Millisecond) {
		text := fmt.Sprintf(`{"bytes": %d, "calls": %d}`, w.bytes.Load(), w.calls.Load())
		if text == told {
			continue
		}
		if os.WriteFile(path+".new", []byte(text), 0o644) == nil && os.Rename(path+".new", path) == nil {
			told = text
		}
	}
}

// node is a file or directory of the volume.
type node struct {
	fs.LoopbackNode
	wire *wire
}

// WrapChild makes children be of this kind too.
func (n *node) WrapChild(_ context.Context, _ fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: fs.LoopbackNode{RootData: n.RootData}, wire: n.wire}
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *node) Getattr(ctx context.Context, handle fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return errno
	}
	if open, ok := handle.(*file); ok {
		return open.Getattr(ctx, out)
	}
	return n.LoopbackNode.Getattr(ctx, nil, out)
}

func (n *node) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return errno
	}
	return n.LoopbackNode.Setattr(ctx, nil, in, out)
}

func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return errno
	}
	return n.LoopbackNode.Statfs(ctx, out)
}

func (n *node) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Readdir(ctx)
}

func (n *node) Mknod(
	ctx context.Context, name string, mode, device uint32, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	if kind := mode & syscall.S_IFMT; kind == syscall.S_IFCHR || kind == syscall.S_IFBLK {
		return nil, syscall.EPERM
	}
	return n.LoopbackNode.Mknod(ctx, name, mode, device, out)
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return nil, 0, errno
	}
	handle, _, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &file{LoopbackFile: handle.(*fs.LoopbackFile), wire: n.wire}, 0, 0
}

func (n *node) Create(
	ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.wire.call(ctx, 0); errno != 0 {
		return nil, nil, 0, errno
	}
	made, handle, _, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return made, &file{LoopbackFile: handle.(*fs.LoopbackFile), wire: n.wire}, 0, 0
}

// file is an open file.
type file struct {
	*fs.LoopbackFile
	wire *wire
}

// PassthroughFd says that the kernel may not read the file itself: nothing of it would take time or be counted.
func (f *file) PassthroughFd() (int, bool) { return 0, false }

func (f *file) Read(ctx context.Context, buffer []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	var out fuse.AttrOut
	if errno := f.LoopbackFile.Getattr(ctx, &out); errno != 0 {
		return nil, errno
	}
	if out.Nlink == 0 {
		return nil, syscall.ESTALE
	}
	size := max(0, min(int64(len(buffer)), int64(out.Size)-offset))
	if errno := f.wire.call(ctx, int(size)); errno != 0 {
		return nil, errno
	}
	f.wire.bytes.Add(size)
	return f.LoopbackFile.Read(ctx, buffer, offset)
}

func (f *file) Write(ctx context.Context, data []byte, offset int64) (uint32, syscall.Errno) {
	if errno := f.wire.call(ctx, len(data)); errno != 0 {
		return 0, errno
	}
	return f.LoopbackFile.Write(ctx, data, offset)
}

func main() {
	if len(os.Args) < 3 || !strings.Contains(os.Args[1], ":/") {
		fail("usage: mount.nfs4 SERVER:/PATH DIRECTORY [-o OPTIONS]")
	}
	source, target := os.Args[1], os.Args[2]
	if os.Getenv(server) == "" {
		start(source)
		return
	}
	serve(source, target)
}

// start waits for the server as mount.nfs does, and returns when the volume is mounted.
func start(source string) {
	link := &wire{}
	for begin := time.Now(); link.current().Unreachable; time.Sleep(attempts) {
		if time.Since(begin) > unknown {
			fail("mount.nfs4: Connection timed out for " + source)
		}
	}
	if info, err := os.Stat(directory(source)); err != nil || !info.IsDir() {
		fail("mount.nfs4: mounting " + source + " failed, reason given by server: No such file or directory")
	}
	daemon := exec.Command("/proc/self/exe", os.Args[1:]...)
	daemon.Env = append(os.Environ(), server+"=1")
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	answer, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		fail(err.Error())
	}
	told := make([]byte, 400)
	length, _ := answer.Read(told)
	if text := string(told[:length]); text != "mounted" {
		fail("mount.nfs4: " + text)
	}
}

// serve is the daemon: it lives until the volume is unmounted, or its machine ends.
func serve(source, target string) {
	answer := os.Stdout
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	os.Stdout, os.Stderr = null, null
	link := &wire{}
	path := directory(source)
	var found syscall.Stat_t
	if err := syscall.Stat(path, &found); err != nil {
		fmt.Fprint(answer, err)
		os.Exit(failed)
	}
	data := &fs.LoopbackRoot{Path: path, Dev: found.Dev}
	root := &node{LoopbackNode: fs.LoopbackNode{RootData: data}, wire: link}
	data.RootNode = root
	ages, none := cached, time.Duration(0)
	mounted, err := fs.Mount(target, root, &fs.Options{
		EntryTimeout: &ages, AttrTimeout: &ages, NegativeTimeout: &none,
		MountOptions: fuse.MountOptions{
			AllowOther: true, DirectMountStrict: true, DirectMountFlags: flags(), DisableXAttrs: true,
			FsName: source, Name: "nfs4", MaxWrite: largest, MaxReadAhead: largest, MaxBackground: 64,
		},
	})
	if err != nil {
		fmt.Fprint(answer, err)
		os.Exit(failed)
	}
	go link.tell()
	fmt.Fprint(answer, "mounted")
	answer.Close()
	mounted.Wait()
}

func directory(source string) string {
	return filepath.Join(base, "files", filepath.Clean(source[strings.Index(source, ":/")+1:]))
}

// flags are those of the options that are not the NFS client's alone.
func flags() uintptr {
	found := uintptr(syscall.MS_NODEV | syscall.MS_NOSUID)
	for at, word := range os.Args {
		if word != "-o" || at+1 == len(os.Args) {
			continue
		}
		for _, option := range strings.Split(os.Args[at+1], ",") {
			switch option {
			case "ro":
				found |= syscall.MS_RDONLY
			case "noexec":
				found |= syscall.MS_NOEXEC
			}
		}
	}
	return found
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(failed)
}
