#!/bin/sh
# Builds the Debian package for an architecture, and prepares everything that is in it, in a directory.
#
#	deploy/deb/build.sh [ARCH [DIRECTORY]]      the go command's architecture and bin by default
#
# The files are in DIRECTORY/stage/ARCH, which build.sh of deploy/release packs as well. The build is reproducible: the
# same commit yields the same files, byte for byte.
set -eu
cd "$(dirname "$0")/../.."
umask 022
export LC_ALL=C TZ=UTC

arch=${1:-$(go env GOARCH)}
out=${2:-bin}
# The date in all files: the commit's. An archive of the sources has no commit, but its files have a date.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

# This machine's programs print their version and -h, whatever the architecture of the package.
host=$out/stage/host
CGO_ENABLED=0 GOARCH='' make --no-print-directory build BIN="$host" STRIP='-s -w'
version=$("$host/wsecho" -version | cut -d ' ' -f 2)
DEB_VERSION=$(deploy/deb/version.sh "$version" "$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)")
DEB_ARCH=$arch
STAGE=$out/stage/$arch
export DEB_VERSION DEB_ARCH STAGE

rm -rf "$STAGE"
mkdir -p "$STAGE/sysctl.d" "$STAGE/completion"
printf '%s\n' "$version" >"$STAGE/version"
# The programs are static, so the package depends on no other. They have no symbol table and no DWARF, which would be
# 4.5 of 14.5 MB and half of the package. Profiles, panics and the traces of SIGABRT take names from Go's own table
# (pclntab), which stays.
CGO_ENABLED=0 GOARCH=$arch make --no-print-directory build BIN="$STAGE" STRIP='-s -w'

# manual PROGRAM ARGUMENT... converts the output of PROGRAM -h to a man page, a file of variables or a completion.
manual() {
	program=$1
	shift
	"$host/$program" -h | GOARCH='' go run ./deploy/manual "$@"
}
day=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
manual wsecho -version "$DEB_VERSION" -date "$day" -see 'wsload(1), systemd.service(5), systemd.socket(5)' \
	-files '/etc/default/wsecho:environment variables of wsecho.service,/usr/share/doc/wsecho/sysctl.d:kernel settings for very many connections; copy them to /etc/sysctl.d' |
	gzip -9n >"$STAGE/wsecho.1.gz"
manual wsload -version "$DEB_VERSION" -date "$day" -see 'wsecho(1)' | gzip -9n >"$STAGE/wsload.1.gz"
manual wsecho -environment >"$STAGE/wsecho.default"
for program in wsecho wsload; do
	manual "$program" -completion bash >"$STAGE/completion/$program"
	manual "$program" -completion zsh >"$STAGE/completion/_$program"
	manual "$program" -completion fish >"$STAGE/completion/$program.fish"
done

gzip -9n >"$STAGE/changelog.gz" <<EOF
wsecho ($DEB_VERSION) unstable; urgency=medium

  * Build of $version; see CHANGELOG.md for the changes.

 -- wsecho maintainers <wsecho@example.org>  $(date -d "@$SOURCE_DATE_EPOCH" -R)
EOF
{
	printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
	sed -n 's/^Copyright (c) /Copyright: /p' LICENSE
	printf 'License: Expat\n'
	sed -n '/^Permission/,$ { s/^$/./; s/^/ /; p }' LICENSE
} >"$STAGE/copyright"
for conf in deploy/sysctl.d/*.conf; do
	[ ! -e "$conf" ] || install -m 644 "$conf" "$STAGE/sysctl.d/"
done

rm -f "$out"/wsecho_*_"$arch.deb"
GOARCH='' go tool -modfile=tools/go.mod nfpm package --config deploy/deb/nfpm.yaml --packager deb --target "$out/wsecho_${DEB_VERSION}_$arch.deb"
