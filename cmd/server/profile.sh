#!/usr/bin/env bash
# Writes cmd/server/default.pgo, the profile that guides the compiler's inlining in bin/wsecho (go help build, -pgo).
# It is a CPU profile of a server under the loads of benchmarks/, taken through the admin endpoint. Run it again after a
# change to the code that every message passes through.
set -euo pipefail
cd "$(dirname "$0")/../.."

log=$(mktemp) server=''
trap '[ -z "$server" ] || kill "$server"; rm -f "$log"' EXIT
bin/wsecho -listen 127.0.0.1:0 -admin 127.0.0.1:0 -workers 1 2>"$log" &
server=$!
for ((tries = 200; tries > 0; tries--)); do
	grep -q msg=serving "$log" && break
	sleep 0.05
done
url=ws://$(sed -n 's/.*msg=serving listen=\[\([^] ]*\)\].*/\1/p' "$log")/
admin=$(sed -n 's/.* admin=\([^ ]*\).*/\1/p' "$log")

load() { bin/wsload -url "$url" -duration "$@" -warmup 100ms -json >/dev/null; }
curl -sSf "http://$admin/debug/pprof/profile?seconds=30" -o cmd/server/default.pgo &
profile=$!
load 8s -connections 100
load 6s -connections 1000 -payload 1KiB
load 5s -connections 100 -inflight 16
load 3s -connections 50 -payload 64KiB
load 3s -connections 50 -mode connect
wait "$profile"
go tool pprof -top -nodecount 12 cmd/server/default.pgo
