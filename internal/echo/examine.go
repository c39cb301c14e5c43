package echo

// Examine examines the head of a request that another HTTP server has read, of the given length in
// bytes as it was received. It returns the refusal that Receive would have answered the request with, or
// else the subprotocol that it would have selected, if any. The head ends with its blank line, and need
// only contain the fields that FieldsExamined names, Host and Transfer-Encoding.
func (e *Endpoint) Examine(head []byte, length int) (subprotocol string, refusal *Refusal) {
	if length > e.cfg.MaxHeader {
		return "", e.upgrader.tooLong
	}
	if refusal := e.upgrader.examine(head); refusal != nil {
		return "", refusal
	}
	return string(e.upgrader.subprotocol), nil
}

// FieldsExamined are the fields of a request that decide about it, beside Host and those that announce
// a body.
var FieldsExamined = []string{
	"Upgrade", "Connection", "Sec-Websocket-Version", "Sec-Websocket-Key",
	"Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Origin",
}
