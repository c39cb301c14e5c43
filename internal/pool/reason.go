package pool

// Reason is why a connection was closed.
type Reason uint8

const (
	Completed      Reason = iota // a close frame, or a refusal, was the last that we sent; Counters.Codes says which
	Disconnected                 // the peer ended TCP without a close frame
	Broken                       // TCP failed, in most cases because the peer reset it
	WriteTimedOut                // the peer did not read what it was sent
	CloseTimedOut                // the peer did not answer our close frame
	CutByShutdown                // the connection was still open when the time to drain was over
	OutOfMemory                  // the kernel took no reply, and there was no memory to keep it
	InternalFailed               // epoll refused to watch the connection
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

func (r Reason) String() string { return reasonNames[r] }
