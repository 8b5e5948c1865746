// kcppeer drives kcp-go with nil crypt through the exchange described in
// ../../../README.md: commands on stdin, one event per line on stdout.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	kcp "github.com/xtaci/kcp-go"
)

const (
	magic   = "KCPX"
	welcome = "GOOD"
	receipt = "DONE"
)

type settings struct {
	stream       bool
	send, expect []int
	up, down     []byte
}

// One line per event, whole, whichever goroutine prints it.
var printLock sync.Mutex

func event(format string, args ...interface{}) {
	printLock.Lock()
	defer printLock.Unlock()
	fmt.Printf(format+"\n", args...)
}

func main() {
	role := flag.String("role", "server", "server or client")
	mode := flag.String("mode", "message", "message or stream")
	flag.Int("conv", 0, "unused: the conv comes with connect, or from the client")
	send := flag.String("send", "1376", "sizes of the pieces sent, in turn")
	expect := flag.String("expect", "1376", "sizes of the pieces received, in turn")
	seed := flag.Uint("seed", 1, "seed of the content sent by the client; the server sends seed + 1")
	total := flag.Int("bytes", 4<<20, "largest exchange")
	flag.Parse()

	s := &settings{
		stream: *mode == "stream",
		send:   sizes(*send),
		expect: sizes(*expect),
		up:     content(uint32(*seed), *total),
		down:   content(uint32(*seed)+1, *total),
	}
	peer := &peer{settings: s}
	if *role == "server" {
		peer.listen()
	}
	peer.commands()
}

type peer struct {
	*settings
	lock    sync.Mutex
	created int
	live    []*session
}

type session struct {
	*kcp.UDPSession
	socket net.PacketConn
}

func (p *peer) listen() {
	listener, err := kcp.ListenWithOptions("127.0.0.1:0", nil, 0, 0)
	check(err)
	listener.SetReadBuffer(4 << 20)
	listener.SetWriteBuffer(4 << 20)
	event("listening %s", listener.Addr())
	go func() {
		for {
			conn, err := listener.AcceptKCP()
			if err != nil {
				event("failed 0 accept: %v", err)
				return
			}
			n := p.add(&session{UDPSession: conn})
			event("accepted %d", n)
			go report(n, func() error { return p.serve(conn) })
		}
	}()
}

func (p *peer) commands() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "connect":
			p.connect(words[1], words[2], words[3])
		case "close":
			p.lock.Lock()
			for _, s := range p.live {
				s.Close()
				if s.socket != nil {
					s.socket.Close()
				}
			}
			p.live = nil
			p.lock.Unlock()
			event("closed")
		case "sessions":
			p.lock.Lock()
			event("sessions %d %d", p.created, len(p.live))
			p.lock.Unlock()
		case "stats":
			event("stats %v", kcp.DefaultSnmp.ToSlice())
		case "quit":
			return
		}
	}
}

func (p *peer) connect(address, conv, length string) {
	remote, err := net.ResolveUDPAddr("udp", address)
	check(err)
	id, err := strconv.ParseUint(conv, 10, 32)
	check(err)
	n, err := strconv.Atoi(length)
	check(err)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	conn, err := kcp.NewConn3(uint32(id), remote, nil, 0, 0, socket)
	check(err)
	conn.SetReadBuffer(4 << 20)
	conn.SetWriteBuffer(4 << 20)
	number := p.add(&session{UDPSession: conn, socket: socket})
	go report(number, func() error { return p.request(conn, n) })
}

func (p *peer) add(s *session) int {
	s.SetNoDelay(1, 10, 2, 1)
	s.SetWindowSize(256, 256)
	s.SetMtu(1400)
	s.SetStreamMode(p.stream)
	p.lock.Lock()
	defer p.lock.Unlock()
	p.created++
	p.live = append(p.live, s)
	return p.created
}

func report(n int, run func() error) {
	if err := run(); err != nil {
		event("failed %d %v", n, err)
	} else {
		event("ok %d", n)
	}
}

// request is the client's side of one exchange.
func (p *peer) request(conn net.Conn, n int) error {
	r := &reader{conn: conn, stream: p.stream, buffer: make([]byte, 1<<20)}
	header := append([]byte(magic), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(header[4:], uint32(n))
	if _, err := conn.Write(header); err != nil {
		return err
	}
	answer, err := r.take(len(welcome))
	if err != nil {
		return err
	}
	if string(answer) != welcome {
		return fmt.Errorf("bad welcome %x", answer)
	}
	if err := p.write(conn, p.up[:n]); err != nil {
		return err
	}
	got, err := r.content(p.expect, p.down[:n])
	if err != nil {
		return err
	}
	if _, err := conn.Write(append([]byte(receipt), got...)); err != nil {
		return err
	}
	return r.receipt(p.up[:n])
}

// serve is the server's side of one exchange.
func (p *peer) serve(conn net.Conn) error {
	r := &reader{conn: conn, stream: p.stream, buffer: make([]byte, 1<<20)}
	header, err := r.take(8)
	if err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint32(header[4:]))
	if string(header[:4]) != magic || n > len(p.up) {
		return fmt.Errorf("bad header %x", header)
	}
	// With windows of 256 since add: the client may send long messages now.
	if _, err := conn.Write([]byte(welcome)); err != nil {
		return err
	}
	got, err := r.content(p.expect, p.up[:n])
	if err != nil {
		return err
	}
	if err := p.write(conn, p.down[:n]); err != nil {
		return err
	}
	if err := r.receipt(p.down[:n]); err != nil {
		return err
	}
	_, err = conn.Write(append([]byte(receipt), got...))
	return err
}

func (p *peer) write(conn net.Conn, data []byte) error {
	for i := 0; len(data) > 0; i++ {
		n := least(p.send[i%len(p.send)], len(data))
		if _, err := conn.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

type reader struct {
	conn    net.Conn
	stream  bool
	buffer  []byte
	pending []byte
}

// take returns exactly n bytes: one message, or n bytes of the stream.
func (r *reader) take(n int) ([]byte, error) {
	for {
		if r.stream && len(r.pending) >= n {
			piece := r.pending[:n]
			r.pending = r.pending[n:]
			return piece, nil
		}
		length, err := r.conn.Read(r.buffer)
		if err == io.EOF || length == 0 {
			return nil, errors.New("end of stream")
		}
		if err != nil {
			return nil, err
		}
		if !r.stream {
			if length != n {
				return nil, fmt.Errorf("message of %d bytes, expected %d", length, n)
			}
			return append([]byte(nil), r.buffer[:n]...), nil
		}
		r.pending = append(r.pending, r.buffer[:length]...)
	}
}

func (r *reader) content(plan []int, want []byte) ([]byte, error) {
	digest := sha256.New()
	offset := 0
	for i := 0; offset < len(want); i++ {
		n := least(plan[i%len(plan)], len(want)-offset)
		piece, err := r.take(n)
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %v", offset, err)
		}
		if !bytes.Equal(piece, want[offset:offset+n]) {
			return nil, fmt.Errorf("content differs in bytes %d..%d", offset, offset+n)
		}
		digest.Write(piece)
		offset += n
	}
	return digest.Sum(nil), nil
}

func (r *reader) receipt(sent []byte) error {
	got, err := r.take(len(receipt) + sha256.Size)
	if err != nil {
		return fmt.Errorf("waiting for the receipt: %v", err)
	}
	want := sha256.Sum256(sent)
	if string(got[:4]) != receipt || !bytes.Equal(got[4:], want[:]) {
		return fmt.Errorf("bad receipt %x", got)
	}
	return nil
}

// content is SHA-256 in counter mode: the same bytes in every language.
func content(seed uint32, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	var block [8]byte
	binary.LittleEndian.PutUint32(block[:], seed)
	for i := uint32(0); len(out) < n; i++ {
		binary.LittleEndian.PutUint32(block[4:], i)
		sum := sha256.Sum256(block[:])
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func sizes(list string) []int {
	var out []int
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(word)
		check(err)
		out = append(out, n)
	}
	return out
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
