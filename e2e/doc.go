// Package e2e tests the real wsecho binary over real sockets, with raw bytes and with common client
// libraries. It contains only tests. It is a separate module, so that the client libraries are not
// dependencies of the server's module.
//
//	go test ./...          # builds wsecho from the parent directory
//	go test -race ./...    # builds it with the race detector as well
//	WSECHO_BIN=../bin/wsecho go test ./...
//
// Tests with clients written in other languages are skipped if the client is not installed. With
// CI=true a missing client fails the test.
package e2e
