package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An Address is an address to listen on: of TCP, or of a unix socket. ParseAddress lists its forms.
type Address struct {
	text string
	path string     // of a unix socket, "@name" for an abstract one; empty: TCP
	host string     // a host name; empty: see ip
	ip   netip.Addr // the zero Addr: every address of the machine, IPv6 and IPv4
	port uint16     // 0: the kernel chooses a port
}

// maxPath is the length limit in bytes of the path of a unix socket and of an abstract name. Of the
// 108 bytes of sun_path, one terminates the path or marks the abstract name (unix(7)).
const maxPath = 107

// ParseAddress parses an address to listen on. It does not resolve names. The forms are
//
//	:8080                 every address of the machine, IPv6 and IPv4
//	0.0.0.0:8080          an IPv4 address, or here all of them: IPv4 only
//	[::]:8080             an IPv6 address, or here all of them: IPv6 only
//	[fe80::1%eth0]:8080   a link-local address, with its interface
//	localhost:8080        a host name: all of its addresses
//	unix:/path            a unix socket in the file system
//	unix:@name            a unix socket in the abstract namespace
//
// An IPv4-mapped address such as [::ffff:127.0.0.1]:8080 is the IPv4 address in it.
func ParseAddress(text string) (Address, error) {
	a := Address{text: text}
	var err error
	if path, isUnix := strings.CutPrefix(text, "unix:"); isUnix {
		a.path, err = path, checkPath(path)
	} else {
		err = a.parseTCP(text)
	}
	if err != nil {
		return Address{}, fmt.Errorf("listen %s: %w", text, err)
	}
	return a, nil
}

func checkPath(path string) error {
	name, isAbstract := strings.CutPrefix(path, "@")
	kind := "path"
	if isAbstract {
		kind = "abstract name"
	}
	switch {
	case name == "":
		return fmt.Errorf("%s is missing", kind)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%s contains a NUL byte", kind)
	case len(name) > maxPath:
		return fmt.Errorf("%s is %d bytes long, the limit is %d", kind, len(name), maxPath)
	}
	return nil
}

func (a *Address) parseTCP(text string) error {
	host, port, err := net.SplitHostPort(text)
	if addrErr, ok := errors.AsType[*net.AddrError](err); ok {
		return fmt.Errorf("%s, want host:port or [IPv6]:port", addrErr.Err)
	}
	if err != nil {
		return err
	}
	if port == "" {
		return errors.New("missing port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	a.port = uint16(n)
	return a.parseHost(host, strings.HasPrefix(text, "["))
}

func (a *Address) parseHost(host string, inBrackets bool) error {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && inBrackets && ip.Is4():
		return fmt.Errorf("brackets are for IPv6 addresses, not for %q", host)
	case err == nil && ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "":
		return fmt.Errorf("link-local address without its interface: write [%s%%eth0]", ip)
	case err == nil:
		a.ip = ip.Unmap()
	case inBrackets:
		return fmt.Errorf("%q is not an IPv6 address", host)
	case host != "" && !isName(host):
		return fmt.Errorf("%q is neither an IP address nor a host name", host)
	default:
		a.host = host
	}
	return nil
}

// isName reports whether host can be a host name. The last label must not be a number: such a name
// looks like an IPv4 address (RFC 1123, section 2.1).
func isName(host string) bool {
	for _, c := range []byte(host) {
		isLetterOrDigit := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80
		if !isLetterOrDigit && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	_, err := strconv.ParseUint(labels[len(labels)-1], 0, 64)
	return err != nil && !slices.Contains(labels, "")
}

// String returns the text that was parsed.
func (a Address) String() string { return a.text }

// IsTCP reports whether a is a TCP address, not that of a unix socket.
func (a Address) IsTCP() bool { return a.path == "" }

// IsAbstract reports whether a is the address of a unix socket in the abstract namespace, which
// every user of the machine can connect to.
func (a Address) IsAbstract() bool { return strings.HasPrefix(a.path, "@") }

// Same reports whether a and b are the same address, so that a second socket cannot listen on it.
func (a Address) Same(b Address) bool {
	if a.IsTCP() && a.port == 0 {
		return false // the kernel chooses a different port for each
	}
	a.text, b.text = "", ""
	return a == b
}

// lookup resolves a host name, as net.Resolver.LookupNetIP does.
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// resolve returns the IP addresses to listen on, without duplicates. The zero Addr stands for every
// address of the machine.
func (a Address) resolve(lookUp lookup) (all []netip.Addr, err error) {
	if a.host == "" {
		return []netip.Addr{a.ip}, checkZone(a.ip)
	}
	found, err := lookUp(context.Background(), "ip", a.host)
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		if ip = ip.Unmap(); !slices.Contains(all, ip) {
			all = append(all, ip)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no addresses", a.host)
	}
	return all, nil
}

// checkZone returns an error if the interface of an address does not exist. Package net would
// ignore the zone.
func checkZone(ip netip.Addr) error {
	zone := ip.Zone()
	if zone == "" {
		return nil
	}
	_, err := net.InterfaceByName(zone)
	if index, atoiErr := strconv.Atoi(zone); atoiErr == nil && err != nil {
		_, err = net.InterfaceByIndex(index)
	}
	if err != nil {
		return fmt.Errorf("no interface %s", zone)
	}
	return nil
}

// isUnavailable reports whether an error means that the machine does not have the address or its
// address family.
func isUnavailable(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}
