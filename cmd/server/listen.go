package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os/user"
	"strconv"
	"strings"

	"wsecho/internal/flags"
	"wsecho/internal/netpoll"
)

// addresses is the value of -listen. The flag may be repeated; its first use replaces the default.
type addresses struct {
	all   []netpoll.Address
	isSet bool
}

func (l *addresses) set(fs *flag.FlagSet, name, byDefault, usage string) {
	if err := l.Set(byDefault); err != nil {
		panic(err)
	}
	l.isSet = false
	fs.Var(l, name, usage)
}

func (l *addresses) String() string {
	texts := make([]string, len(l.all))
	for i, a := range l.all {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// Set adds the addresses of a comma-separated list. Its error names the invalid address.
func (l *addresses) Set(text string) error {
	if !l.isSet {
		l.all, l.isSet = nil, true
	}
	texts, err := flags.Split(text)
	if err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	for _, text := range texts {
		a, err := netpoll.ParseAddress(text)
		if err != nil {
			return err
		}
		for _, other := range l.all {
			if a.Same(other) {
				return fmt.Errorf("listen %s: is the same address as %s", a, other)
			}
		}
		l.all = append(l.all, a)
	}
	return nil
}

// unixMode is the value of -unix-mode.
type unixMode struct {
	isSet bool // otherwise the umask decides
	mode  fs.FileMode
}

const byUmask = "umask"

func parseUnixMode(text string) (unixMode, error) {
	if text == byUmask {
		return unixMode{}, nil
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > uint64(fs.ModePerm) {
		return unixMode{}, errors.New("is not an octal mode from 0000 to 0777, such as 0660")
	}
	return unixMode{true, fs.FileMode(mode)}, nil
}

func (m unixMode) String() string {
	if !m.isSet {
		return byUmask
	}
	return fmt.Sprintf("%#04o", uint32(m.mode))
}

// unixGroup is the value of -unix-group. The zero value is none.
type unixGroup struct {
	text string
	id   int
}

func parseUnixGroup(text string) (unixGroup, error) {
	if text == "" || text == "none" {
		return unixGroup{}, nil
	}
	number := text
	if g, err := user.LookupGroup(text); err == nil {
		number = g.Gid
	}
	// chown(2) takes the highest number for no change.
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil || id == 1<<32-1 {
		return unixGroup{}, errors.New("is neither a group of this machine nor a group number")
	}
	return unixGroup{text, int(id)}, nil
}

func (g unixGroup) String() string { return g.text }

// checkUnix returns an error if -unix-mode or -unix-group is set with an abstract socket, which has
// no permissions.
func (s *settings) checkUnix() error {
	for _, a := range s.listen.all {
		if a.IsAbstract() && (s.unixMode.isSet || s.unixGroup.text != "") {
			return fmt.Errorf("-listen %s: an abstract socket has neither mode nor group, and every local user can connect: use a path, or remove -unix-mode and -unix-group", a)
		}
	}
	return nil
}

// A socket is a listening socket, with the flag and the address that it was opened for.
type socket struct {
	netpoll.Listener
	flag    string
	address netpoll.Address
}

// listenAt opens the sockets of an address that a flag gives. The error names the flag and the
// address, and the socket of before that is in the way, if one is.
func listenAt(flag string, a netpoll.Address, c netpoll.ListenConfig, before []socket, log *slog.Logger) ([]socket, error) {
	listeners, unavailable, err := c.Listen(a)
	for _, other := range before {
		if other.Excludes(err) {
			err = fmt.Errorf("%w: %s %s listens there", err, other.flag, other.address)
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, a, err)
	}
	for _, err := range unavailable {
		log.Warn("skipping an address of the name that this machine does not have", "flag", flag, "name", a, "err", err)
	}
	sockets := make([]socket, len(listeners))
	for i, l := range listeners {
		sockets[i] = socket{l, flag, a}
	}
	return sockets, nil
}

// listenAll opens the sockets of -listen. On an error it leaves none open.
func (s *settings) listenAll(log *slog.Logger) (all []socket, err error) {
	config := netpoll.ListenConfig{
		SetMode: s.unixMode.isSet, Mode: s.unixMode.mode,
		SetGroup: s.unixGroup.text != "", Group: s.unixGroup.id,
	}
	for _, a := range s.listen.all {
		sockets, err := listenAt("-listen", a, config, all, log)
		if errors.Is(err, netpoll.ErrGroup) {
			err = fmt.Errorf("-unix-group %s: %w", s.unixGroup, err)
		}
		if err != nil {
			closeAll(listenersOf(all))
			return nil, err
		}
		all = append(all, sockets...)
	}
	return all, nil
}

// listenersOf returns the listeners of sockets.
func listenersOf(sockets []socket) []netpoll.Listener {
	listeners := make([]netpoll.Listener, len(sockets))
	for i, s := range sockets {
		listeners[i] = s.Listener
	}
	return listeners
}

func closeAll(listeners []netpoll.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// texts returns the addresses of the listeners.
func texts(listeners []netpoll.Listener) (all []string) {
	for _, l := range listeners {
		all = append(all, l.String())
	}
	return all
}
