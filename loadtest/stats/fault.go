package stats

import "fmt"

// A Failure is a kind of error. An error ends the connection on which it occurs. The method Meaning
// describes the kinds.
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
	ConnectFailed:   {"connect", "TCP did not connect: it was refused, there was no answer, or no local port was free"},
	HandshakeFailed: {"handshake", "the response to the opening request was not a valid 101"},
	Mismatched:      {"mismatch", "a reply differs from its message in bytes, length or opcode"},
	Violated:        {"protocol", "a frame violates RFC 6455"},
	Unasked:         {"unasked", "a message arrived when none was expected"},
	Closed:          {"closed", "the server closed with a close frame"},
	Cut:             {"cut", "TCP ended or was reset without a close frame"},
	TimedOut:        {"timeout", "nothing arrived for -timeout while a reply or a greeting was outstanding"},
	Unsent:          {"unsent", "a message was due on a connection that had failed or did not open in time"},
	TeardownFailed:  {"teardown", "the server did not answer a close frame with its own and the end of TCP"},
}

// String returns the name of the kind in reports.
func (f Failure) String() string { return failures[f].name }

// Meaning returns a description of the kind for -h and reports.
func (f Failure) Meaning() string { return failures[f].meaning }

// A Fault is an error of one connection.
type Fault struct {
	Kind   Failure
	Detail string // what happened, on which connection
}

// Error returns the kind and the detail.
func (f *Fault) Error() string { return f.Kind.String() + ": " + f.Detail }

// Faultf returns a fault whose detail is formatted as by [fmt.Sprintf].
func Faultf(kind Failure, format string, args ...any) *Fault {
	return &Fault{kind, fmt.Sprintf(format, args...)}
}
