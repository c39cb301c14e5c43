package pool

// A Reason is the reason why a connection was closed.
type Reason uint8

const (
	Completed      Reason = iota // we sent a close frame or an HTTP response last; Counters.Codes counts which
	Disconnected                 // the peer closed TCP without a close frame
	Broken                       // TCP failed, in most cases because the peer reset it
	WriteTimedOut                // the peer did not read its output
	CloseTimedOut                // the peer did not answer our close frame
	CutByShutdown                // the connection was still open when the drain timeout expired
	OutOfMemory                  // the kernel did not take a reply, and there was no memory to keep it
	InternalFailed               // epoll could not watch the connection
	numReasons
)

var reasonNames = [numReasons]string{
	Completed:      "completed",
	Disconnected:   "disconnected",
	Broken:         "broken",
	WriteTimedOut:  "write timeout",
	CloseTimedOut:  "close timeout",
	CutByShutdown:  "cut by shutdown",
	OutOfMemory:    "out of memory",
	InternalFailed: "internal failure",
}

// String returns the name of the reason, such as "write timeout".
func (r Reason) String() string { return reasonNames[r] }
