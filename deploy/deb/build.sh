#!/bin/sh
# Builds the Debian package in bin/. The build is reproducible: the same commit yields the same package, byte for byte.
set -eu
cd "$(dirname "$0")/../.."

describe=$(git describe --tags --always --dirty)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
DEB_VERSION=$(deploy/deb/version.sh "$describe" "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)")
DEB_ARCH=$(go env GOARCH)
export SOURCE_DATE_EPOCH DEB_VERSION DEB_ARCH

stage=bin/deb
rm -rf "$stage" bin/wsecho_*.deb
mkdir -p "$stage/sysctl.d"
# The programs are static, so the package depends on no other. They have no symbol table and no DWARF, which would be
# 4.5 of 14.5 MB and half of the package. Profiles, panics and the traces of SIGABRT take names from Go's own table
# (pclntab), which stays.
CGO_ENABLED=0 make --no-print-directory build BIN="$stage" STRIP='-s -w'

# manual PROGRAM ARGUMENT... converts the output of PROGRAM -h to a man page or a file of variables.
manual() {
	program=$1
	shift
	"$stage/$program" -h | go run ./deploy/manual "$@"
}
day=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
manual wsecho -version "$DEB_VERSION" -date "$day" -see 'wsload(1), systemd.service(5), systemd.socket(5)' \
	-files '/etc/default/wsecho:environment variables of wsecho.service,/usr/share/doc/wsecho/sysctl.d:kernel settings for very many connections; copy them to /etc/sysctl.d' |
	gzip -9n >"$stage/wsecho.1.gz"
manual wsload -version "$DEB_VERSION" -date "$day" -see 'wsecho(1)' | gzip -9n >"$stage/wsload.1.gz"
manual wsecho -environment >"$stage/wsecho.default"

gzip -9n >"$stage/changelog.gz" <<EOF
wsecho ($DEB_VERSION) unstable; urgency=medium

  * Build of $describe; see git log for the changes.

 -- wsecho maintainers <wsecho@example.org>  $(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" -R)
EOF
{
	printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
	sed -n 's/^Copyright (c) /Copyright: /p' LICENSE
	printf 'License: Expat\n'
	sed -n '/^Permission/,$ { s/^$/./; s/^/ /; p }' LICENSE
} >"$stage/copyright"
for conf in deploy/sysctl.d/*.conf; do
	[ ! -e "$conf" ] || install -m 644 "$conf" "$stage/sysctl.d/"
done

go tool -modfile=tools/go.mod nfpm package --config deploy/deb/nfpm.yaml --packager deb --target "bin/wsecho_${DEB_VERSION}_$DEB_ARCH.deb"
