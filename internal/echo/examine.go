package echo

// Examine checks the head of a request that another HTTP server has read; length is the number of
// bytes in which the server received it. Examine returns the refusal with which Receive would have
// answered the request. If there is none, it returns the subprotocol that Receive would have
// selected, if any. The head ends with its blank line, and need only contain Host,
// Transfer-Encoding and the fields that FieldsExamined names.
func (e *Endpoint) Examine(head []byte, length int) (subprotocol string, refusal *Refusal) {
	if length > e.cfg.MaxHeader {
		return "", e.upgrader.tooLong
	}
	if refusal := e.upgrader.examine(head); refusal != nil {
		return "", refusal
	}
	return string(e.upgrader.subprotocol), nil
}

// FieldsExamined lists the header fields that Examine uses, in the canonical form of net/http,
// apart from Host and the fields that announce a body.
var FieldsExamined = []string{
	"Upgrade", "Connection", "Sec-Websocket-Version", "Sec-Websocket-Key",
	"Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Origin",
}
