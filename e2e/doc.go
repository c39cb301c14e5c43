// Package e2e holds no code of its own: its tests build the real wsecho binary, start it, and talk to it over real
// sockets, as raw octets and through the client libraries people use. It is a module apart so that those clients
// never reach the server's go.mod.
//
//	go test ./...          # builds wsecho from the parent directory
//	go test -race ./...    # builds it with the race detector as well
//	WSECHO_BIN=../bin/wsecho go test ./...
//
// Clients written in other languages are skipped where their program is not installed; with CI=true that is a failure.
package e2e
