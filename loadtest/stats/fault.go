package stats

import "fmt"

// A Failure is a kind of error. Each error costs the connection on which it happens. Meaning says
// what the kinds are.
type Failure uint8

// The kinds of errors.
const (
	ConnectFailed Failure = iota
	HandshakeFailed
	Mismatched
	Violated
	Unasked
	Closed
	Cut
	TimedOut
	Unsent
	TeardownFailed
	Failures // the number of kinds
)

var failures = [Failures]struct{ name, meaning string }{
	ConnectFailed:   {"connect", "TCP was not connected: refused, no answer, no local port left"},
	HandshakeFailed: {"handshake", "the opening request was not answered with a proper 101"},
	Mismatched:      {"mismatch", "a reply has other bytes than its message, or more, or fewer"},
	Violated:        {"protocol", "a frame is not what RFC 6455 allows a server to send"},
	Unasked:         {"unasked", "a message came when none was awaited"},
	Closed:          {"closed", "the server closed with a close frame"},
	Cut:             {"cut", "TCP ended or was reset without a close frame"},
	TimedOut:        {"timeout", "nothing came for -timeout while a reply or a greeting was awaited"},
	Unsent:          {"unsent", "a message was due on a connection that had failed, or was not open in time"},
	TeardownFailed:  {"teardown", "a close frame was not answered by a close frame and the end of TCP"},
}

// String returns the name of the kind in reports.
func (f Failure) String() string { return failures[f].name }

// Meaning returns a description of the kind for -h and reports.
func (f Failure) Meaning() string { return failures[f].meaning }

// A Fault is an error of one connection: its kind and its circumstances.
type Fault struct {
	Kind   Failure
	Detail string
}

// Error returns the kind and the detail.
func (f *Fault) Error() string { return f.Kind.String() + ": " + f.Detail }

// Faultf returns a fault whose detail is formatted as by [fmt.Sprintf].
func Faultf(kind Failure, format string, args ...any) *Fault {
	return &Fault{kind, fmt.Sprintf(format, args...)}
}
