package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// endOfHeader ends requests and responses.
var endOfHeader = []byte("\r\n\r\n")

// longestResponse is what an opening response may have at the most.
const longestResponse = 16 << 10

// key is the Sec-WebSocket-Key of a connection, made from its serial number so that it
// need not be remembered. A key has to be new, not secret (RFC 6455, section 10.3: it proves that the
// server has read the request).
func key(serial uint64) string {
	var nonce [16]byte
	binary.LittleEndian.PutUint64(nonce[:8], scramble(serial))
	binary.LittleEndian.PutUint64(nonce[8:], scramble(^serial))
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// scramble is the finalizer of splitmix64: neighbours have nothing in common.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// acceptKey is the answer to a key (section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// appendRequest appends the opening request of a connection.
func appendRequest(p []byte, host, path string, serial uint64) []byte {
	p = append(p, "GET "...)
	p = append(p, path...)
	p = append(p, " HTTP/1.1\r\nHost: "...)
	p = append(p, host...)
	p = append(p, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
	p = append(p, key(serial)...)
	return append(p, endOfHeader...)
}

// checkResponse checks the response to the request with the same serial number, as
// section 4.1 says. It is whole, with its blank line.
func checkResponse(response []byte, serial uint64) error {
	status, fields, _ := strings.Cut(string(response), "\r\n")
	version, code, _ := strings.Cut(status, " ")
	if version != "HTTP/1.1" || code != "101" && !strings.HasPrefix(code, "101 ") {
		return faultf(handshakeFailed, "the answer is %.100q", status)
	}
	var upgrade, connection, accept bool
	for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "upgrade":
			upgrade = strings.EqualFold(value, "websocket")
		case "connection":
			for token := range strings.SplitSeq(value, ",") {
				connection = connection || strings.EqualFold(strings.TrimSpace(token), "upgrade")
			}
		case "sec-websocket-accept":
			accept = value == acceptKey(key(serial))
		case "sec-websocket-extensions", "sec-websocket-protocol":
			if value != "" {
				return faultf(handshakeFailed, "%s: %.100q, and none was offered", name, value)
			}
		}
	}
	switch {
	case !upgrade:
		return faultf(handshakeFailed, "101 without Upgrade: websocket")
	case !connection:
		return faultf(handshakeFailed, "101 without Connection: Upgrade")
	case !accept:
		return faultf(handshakeFailed, "101 without the right Sec-WebSocket-Accept")
	}
	return nil
}

// cutResponse finds the end of a response.
func cutResponse(p []byte) (response, rest []byte, whole bool) {
	i := bytes.Index(p, endOfHeader)
	if i < 0 {
		return nil, p, false
	}
	i += len(endOfHeader)
	return p[:i], p[i:], true
}
