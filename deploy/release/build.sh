#!/bin/sh
# Builds a release in a directory, bin/release by default: for each architecture an archive and a Debian package, and the
# bill of materials and checksums of all of them.
#
#	deploy/release/build.sh [DIRECTORY]
#
# The build is reproducible: the same commit yields the same files, byte for byte, in any directory.
set -eu
cd "$(dirname "$0")/../.."
umask 022
export LC_ALL=C TZ=UTC
out=${1:-bin/release}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

rm -rf "$out"
programs=
for arch in amd64 arm64; do
	deploy/deb/build.sh "$arch" "$out"
	stage=$out/stage/$arch
	version=$(cat "$stage/version")
	programs="$programs linux/$arch=../$stage/wsecho linux/$arch=../$stage/wsload"

	# The layout is that of /usr/local, into which the archive can be extracted with --strip-components=1.
	name=wsecho_${version}_linux_$arch
	root=$out/stage/$name
	share=$root/share
	doc=$share/doc/wsecho
	install -D -m 755 -t "$root/bin" "$stage/wsecho" "$stage/wsload"
	install -D -m 644 -t "$share/man/man1" "$stage/wsecho.1.gz" "$stage/wsload.1.gz"
	install -D -m 644 -t "$share/bash-completion/completions" "$stage/completion/wsecho" "$stage/completion/wsload"
	install -D -m 644 -t "$share/zsh/site-functions" "$stage/completion/_wsecho" "$stage/completion/_wsload"
	install -D -m 644 -t "$share/fish/vendor_completions.d" "$stage/completion/wsecho.fish" "$stage/completion/wsload.fish"
	install -D -m 644 -t "$doc" LICENSE README.md CHANGELOG.md
	install -D -m 644 "$stage/wsecho.default" "$doc/environment"
	for folder in deploy/systemd deploy/sysctl.d deploy/haproxy deploy/nginx deploy/prometheus deploy/grafana; do
		find "$folder" -maxdepth 1 -type f ! -name '*.go' -exec install -D -m 644 -t "$doc/${folder#deploy/}" {} +
	done
	tar -c --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -C "$out/stage" "$name" |
		gzip -9n >"$out/$name.tar.gz"
done
# shellcheck disable=SC2086 # a list of words
(cd tools && GOARCH='' go run ./sbom -name wsecho -version "$version" -modules .. $programs) >"$out/wsecho_$version.spdx.json"
rm -r "$out/stage"
(cd "$out" && sha256sum -- * >SHA256SUMS)
cat "$out/SHA256SUMS"
