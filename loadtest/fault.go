package main

import "fmt"

// failure is a kind of thing that goes wrong. Each is counted, and costs the
// connection it happens to.
type failure uint8

const (
	connectFailed   failure = iota // TCP was not connected: refused, no answer, no port left
	handshakeFailed                // the request was not answered with a proper 101
	mismatched                     // a reply has other bytes than the message, or more, or fewer
	violated                       // a frame is not what RFC 6455 allows a server to send
	unasked                        // a message came when none was awaited
	closed                         // the server closed, with a close frame
	cut                            // TCP ended or was reset without one
	timedOut                       // nothing came for -timeout while a reply or a greeting was awaited
	unsent                         // a message was due on a connection that had failed, or was not open in time
	teardownFailed                 // our close frame was not answered by a close frame and the end of TCP
	failures                       // how many kinds there are
)

var failureNames = [failures]string{
	"connect", "handshake", "mismatch", "protocol", "unasked", "closed", "cut", "timeout", "unsent", "teardown",
}

var failureMeanings = [failures]string{
	"TCP was not connected: refused, no answer, no local port left",
	"the opening request was not answered with a proper 101",
	"a reply has other bytes than its message, or more, or fewer",
	"a frame is not what RFC 6455 allows a server to send",
	"a message came when none was awaited",
	"the server closed with a close frame",
	"TCP ended or was reset without a close frame",
	"nothing came for -timeout while a reply or a greeting was awaited",
	"a message was due on a connection that had failed, or was not open in time",
	"a close frame was not answered by a close frame and the end of TCP",
}

func (f failure) String() string { return failureNames[f] }

// A fault is a failure with its circumstances.
type fault struct {
	kind   failure
	detail string
}

func (f *fault) Error() string { return f.kind.String() + ": " + f.detail }

func faultf(kind failure, format string, args ...any) *fault {
	return &fault{kind, fmt.Sprintf(format, args...)}
}
