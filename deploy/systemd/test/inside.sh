#!/bin/bash
# Runs inside the virtual machine of run.sh, under systemd as PID 1. The output goes to the serial console; the last
# line is the result.
set -Eeuo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER='' SYSTEMD_COLORS=0 LC_ALL=C.UTF-8
trap 'echo "wsecho-test: FAIL: line $LINENO: $BASH_COMMAND"; journalctl --no-pager -o cat -n 60 -u wsecho.service -u wsecho.socket; exit 1' ERR

shows() {
	echo "\$ $*"
	"$@" || test $? = 3 # the exit status of systemctl for a unit that is not running
}
property() { systemctl show --value -p "$1" wsecho.service; }

# until_true SECONDS COMMAND... waits until a command succeeds, and fails after SECONDS.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		if [ $SECONDS -ge $end ]; then
			echo "timed out waiting for: $*"
			return 1
		fi
		sleep 0.2
	done
}

# connected N succeeds if at least N connections to port 8080 are open, according to the kernel.
connected() { [ "$(grep -cE ':1F90 [0-9A-F]+:[0-9A-F]+ 01 ' /proc/net/tcp6)" -ge "$1" ]; }

# load FILE ARGUMENT... runs wsload in the background, and writes its report to FILE.
load() {
	local report=$1
	shift
	wsload -url ws://127.0.0.1:8080/ -warmup 0s -workers 1 "$@" >"$report" 2>&1 &
	loader=$!
}

echo "== install"
uname -sr
systemctl --version | head -n 1
shows dpkg --install /wsecho-test/wsecho.deb | cat # without a terminal dpkg prints no percentages
[ "$(property ActiveState)" = inactive ]

echo "== start, status"
shows systemctl enable --now wsecho.service
load /tmp/load -connections 20 -duration 30s
figures='^[1-9][0-9]* connections, [1-9][0-9]* messages/s'
until_true 40 bash -c "systemctl show --value -p StatusText wsecho.service | grep -qE '$figures'"
shows systemctl status --no-pager wsecho.service wsecho.socket
kill -INT $loader
wait $loader
[ "$(property ActiveState)" = active ]
pid=$(property MainPID)
shows grep -E '^(Uid|CapBnd|NoNewPrivs|Seccomp):' "/proc/$pid/status"
shows grep 'open files' "/proc/$pid/limits"
grep -q '^NoNewPrivs:[[:space:]]*1' "/proc/$pid/status"
grep -qE 'open files +1048576 +1048576' "/proc/$pid/limits"

echo "== restart under load: connections come, echo and go"
load /tmp/connect -mode connect -connections 20 -duration 12s -fail-if 'errors>1e9' # the check below looks at their kinds
sleep 3
for _ in 1 2 3; do
	shows systemctl restart wsecho.service
	sleep 1.5
done
[ "$(property MainPID)" != "$pid" ]
wait $loader
cat /tmp/connect
# A close with 1001 is not a refusal; a failed connection, or a request without an answer 101, is.
if grep -E '^(errors)? +[0-9,]+ (connect|handshake|mismatch|protocol|cut|timeout):' /tmp/connect; then
	echo "connections were refused"
	false
fi
journalctl --no-pager -o cat -u wsecho.service -g 'msg=stopped'

echo "== stop: a drain"
load /tmp/idle -mode idle -connections 50 -duration 60s
until_true 30 connected 50
shows systemctl stop wsecho.socket wsecho.service
kill -INT $loader # it would keep trying to reconnect
wait $loader || true
grep '^errors' /tmp/idle || true
shows journalctl --no-pager -o cat -n 4 -u wsecho.service
shows systemctl show -p Result -p ExecMainStatus -p ActiveState wsecho.service
[ "$(property Result) $(property ExecMainStatus) $(property ActiveState)" = "success 0 inactive" ]
journalctl --no-pager -o cat -n 4 -u wsecho.service | grep -q 'codes=map\[1001:50\]'

echo "== watchdog: a server that hangs is killed and started again"
shows systemctl start wsecho.service
pid=$(property MainPID)
shows kill -STOP "$pid"
until_true 60 bash -c "[ \$(systemctl show --value -p NRestarts wsecho.service) -ge 1 ] && [ \$(systemctl show --value -p SubState wsecho.service) = running ]"
journalctl --no-pager -o cat -u wsecho.service | grep -E 'Watchdog|SIGABRT|[Kk]ill|result|restart'
[ "$(property MainPID)" != "$pid" ]
load /tmp/again -connections 1 -duration 1s
wait $loader
grep -q '^errors  *none' /tmp/again
echo "it echoes again: $(grep ^rate /tmp/again)"

echo "== purge"
shows dpkg --purge wsecho
[ "$(systemctl show --value -p LoadState wsecho.service)" = not-found ]
[ ! -e "/proc/$(pidof wsecho || echo none)" ]
if find / -xdev -name '*wsecho*' ! -path '/wsecho-test*' ! -path '/tmp/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '*/wsecho-test.service*' | grep .; then
	echo "the purge left these files behind"
	false
fi
echo "wsecho-test: PASS"
