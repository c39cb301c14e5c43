#!/bin/sh
# Tests the Debian package: runs lintian, installs it, runs its programs, removes and purges it, and checks that no file
# remains.
#
#	deploy/deb/test.sh bin/wsecho_1.2.3_amd64.deb
#
# The test uses this machine's dpkg in a throwaway overlay over its file system, and does not change the machine. If no
# overlay can be mounted, as in some containers, the test runs on the machine itself if CI=true, and is skipped
# otherwise.
set -eu
package=$(realpath "$1")

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# unavailable REASON skips the test, or fails it in CI.
unavailable() {
	if [ "${CI:-}" = true ]; then fail "required in CI: $*"; fi
	echo "skipped: $*"
	exit 0
}

if [ "${INSIDE:-}" = "" ]; then
	echo "== lintian"
	if command -v lintian >/dev/null; then
		lintian --allow-root --fail-on error,warning "$package" || fail "lintian reports errors or warnings"
	elif [ "${CI:-}" = true ]; then
		fail "lintian is not installed, and CI needs it"
	else
		echo "skipped: lintian is not installed"
	fi

	for program in dpkg man unshare; do
		command -v "$program" >/dev/null || unavailable "$program is not installed"
	done
	if [ "$(id -u)" != 0 ]; then
		echo "skipped: only root installs packages" # also in CI, which may run as any user
		exit 0
	fi
	if dpkg -s wsecho >/dev/null 2>&1; then unavailable "wsecho is already installed on this machine"; fi
	layer=$(mktemp -d)
	cp "$package" "$layer/package.deb"
	cp "$0" "$layer/test.sh"
	status=0
	# All mounts are in a separate namespace and end with it. Its network has only loopback, so all ports are free.
	# shellcheck disable=SC2016
	unshare --mount --net --pid --fork sh -euc '
		mount -t tmpfs tmpfs "$1" -o size=512m
		mkdir "$1/upper" "$1/work" "$1/root"
		mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" || exit 99
		ip link set lo up
		mount -t proc proc "$1/root/proc"
		mount --bind /dev "$1/root/dev"
		mount -t tmpfs tmpfs "$1/root/run"
		mkdir "$1/root/run/test"
		exec 3<"$2/package.deb" 4<"$2/test.sh"
		cat <&3 >"$1/root/run/test/package.deb"
		cat <&4 >"$1/root/run/test/test.sh"
		mkdir "$1/root/run/upper"
		mount --bind "$1/upper" "$1/root/run/upper"
		INSIDE=layer exec chroot "$1/root" sh /run/test/test.sh /run/test/package.deb
	' sh /mnt "$layer" || status=$?
	rm -rf "$layer"
	[ $status = 99 ] || exit $status
	[ "${CI:-}" = true ] || unavailable "no overlay can be mounted"
	INSIDE=machine exec sh "$0" "$package"
fi

installed() { dpkg -L wsecho | while read -r path; do [ -d "$path" ] || echo "$path"; done; }

echo "== install"
dpkg --install "$package"
[ "$(dpkg-query -W -f '${db:Status-Status}' wsecho)" = installed ] || fail "not installed"
[ -z "$(dpkg --verify wsecho)" ] || fail "files differ from the package's"
files=$(installed)
for want in /usr/bin/wsecho /usr/bin/wsload /lib/systemd/system/wsecho.service /lib/systemd/system/wsecho.socket \
	/etc/default/wsecho /usr/share/man/man1/wsecho.1.gz /usr/share/man/man1/wsload.1.gz /usr/share/doc/wsecho/copyright \
	/usr/share/bash-completion/completions/wsecho /usr/share/zsh/vendor-completions/_wsload /usr/share/fish/vendor_completions.d/wsload.fish; do
	echo "$files" | grep -qx "$want" || fail "$want is not in the package"
done
for unit in wsecho.service wsecho.socket; do
	if find /etc/systemd -name "$unit" | grep .; then fail "$unit is enabled, want it disabled"; fi
done

echo "== run"
/usr/bin/wsecho -version
[ "$(/usr/bin/wsecho -version | cut -d ' ' -f 1)" = wsecho ] || fail "/usr/bin/wsecho is another program"
set -a
# shellcheck disable=SC1091
. /etc/default/wsecho
set +a
log=$(mktemp)
WSECHO_LISTEN=127.0.0.1:0 WSECHO_ADMIN=127.0.0.1:0 WSECHO_LOG=text /usr/bin/wsecho 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 100); do
	address=$(sed -n 's/.*msg=serving listen=\[\([^]]*\)\].*/\1/p' "$log")
	[ -z "$address" ] || break
	sleep 0.1
done
report=$(/usr/bin/wsload -url "ws://$address/" -connections 10 -warmup 0s -duration 500ms)
echo "$report"
echo "$report" | grep -q '^errors  *none' || fail "the packaged programs do not echo"
kill -TERM $server
wait $server || fail "the server's exit status is not 0"
trap - EXIT
cat "$log"

# The binaries are stripped. The trace of the watchdog's SIGABRT must still have function names and line numbers.
WSECHO_LISTEN=127.0.0.1:0 WSECHO_ADMIN=127.0.0.1:0 WSECHO_LOG=text /usr/bin/wsecho 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 100); do
	if grep -q 'msg=serving' "$log"; then break; fi
	sleep 0.1
done
kill -ABRT $server
if wait $server; then fail "the server survives SIGABRT"; fi
trap - EXIT
grep -q '^wsecho/internal/pool\.(\*worker)\.run(' "$log" || fail "the trace lacks the name of a worker's function: $(cat "$log")"
grep -q 'internal/pool/loop\.go:[0-9]' "$log" || fail "the trace lacks line numbers"
rm "$log"

echo "== manual"
for page in wsecho wsload; do
	warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l "/usr/share/man/man1/$page.1.gz" 2>&1 >/dev/null) || fail "man $page"
	[ -z "$warnings" ] || fail "man $page: $warnings"
	gzip -dc "/usr/share/man/man1/$page.1.gz" | grep -q 'SH OPTIONS' || fail "no options in $page(1)"
done

echo "== changes by the administrator survive an upgrade and a removal"
echo 'WSECHO_LOG=json' >>/etc/default/wsecho
dpkg --install "$package"
grep -q '^WSECHO_LOG=json' /etc/default/wsecho || fail "an upgrade has undone a change in /etc/default/wsecho"
enabled() { find /etc/systemd -name 'wsecho.*' | sort; }
links=
if command -v systemctl >/dev/null; then
	systemctl --quiet enable wsecho.service
	[ "$(systemctl is-enabled wsecho.socket)" = enabled ] || fail "the socket is not enabled with the service"
	links=$(enabled)
	dpkg --install "$package"
	[ "$(enabled)" = "$links" ] || fail "an upgrade has changed what is enabled: $(enabled)"
	systemctl --quiet disable wsecho.service wsecho.socket
	dpkg --install "$package"
	[ -z "$(enabled)" ] || fail "an upgrade has enabled what was disabled: $(enabled)"
	systemctl --quiet mask wsecho.socket # as docs/operation.md advises, so that the server listens by itself
	dpkg --install "$package"
	[ "$(systemctl is-enabled wsecho.socket || true)" = masked ] || fail "an upgrade has unmasked the socket"
	systemctl --quiet unmask wsecho.socket
	systemctl --quiet enable wsecho.service
fi
dpkg --remove wsecho
[ "$(enabled)" = "$links" ] || fail "a removal has changed what is enabled, which only a purge may do: $(enabled)"
[ -f /etc/default/wsecho ] || fail "the removal has deleted /etc/default/wsecho, which only a purge may do"
for path in $files; do
	[ "$path" = /etc/default/wsecho ] || [ ! -e "$path" ] || fail "$path still exists after the removal"
done

echo "== purge"
dpkg --purge wsecho
if dpkg -s wsecho >/dev/null 2>&1; then fail "dpkg still lists wsecho"; fi
for path in $files; do
	[ ! -e "$path" ] || fail "$path still exists after the purge"
done
left=$(find /etc /lib/systemd /usr/lib/systemd /usr/share /var -xdev -name '*wsecho*' ! -path '*/overlay*' 2>/dev/null || true)
[ -z "$left" ] || fail "left behind: $left"
if [ "$INSIDE" = layer ]; then
	# The upper directory has everything that any program has written: files, and the markers of deleted ones. Directories
	# may be mere copies. The databases of dpkg and man do not belong to the package.
	left=$(cd /run/upper && find . ! -type d ! -path './var/lib/dpkg/*' ! -path './var/log/*' ! -path './var/cache/*')
	[ -z "$left" ] || fail "left behind: $left"
fi
echo "PASS: installed, run, removed and purged; no file remains"
