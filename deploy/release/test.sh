#!/bin/sh
# Tests `make release`: builds the last commit twice, in different directories and circumstances, and compares the files;
# checks what is in them; and builds an archive of the sources, which has no git repository.
set -eu
cd "$(dirname "$0")/../.."
top=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

echo "== two builds"
git clone -q . "$work/first"
git clone -q . "$work/a longer name for the second"
(cd "$work/first" && umask 022 && make --no-print-directory release >/dev/null)
(cd "$work/a longer name for the second" && umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 make --no-print-directory release >/dev/null)
cd "$work/first/bin/release"
diff SHA256SUMS "$work/a longer name for the second/bin/release/SHA256SUMS" || fail "two builds of one commit differ"
sha256sum --quiet -c SHA256SUMS
ls -l

echo "== contents"
for arch in amd64 arm64; do
	archive=$(echo wsecho_*_linux_"$arch.tar.gz")
	name=${archive%.tar.gz}
	tar -xzf "$archive" -C "$work"
	for file in bin/wsecho bin/wsload share/man/man1/wsecho.1.gz share/man/man1/wsload.1.gz share/bash-completion/completions/wsecho \
		share/zsh/site-functions/_wsload share/fish/vendor_completions.d/wsecho.fish share/doc/wsecho/LICENSE share/doc/wsecho/systemd/wsecho.service \
		share/doc/wsecho/sysctl.d/60-wsecho-1m.conf share/doc/wsecho/environment; do
		[ -s "$work/$name/$file" ] || fail "$archive has no $file"
	done
	go version -m "$work/$name/bin/wsecho" | grep -q "GOARCH=$arch" || fail "$archive has programs of another architecture"
	dpkg-deb --field "$(echo wsecho_*_"$arch.deb")" Architecture | grep -qx "$arch" || fail "the package for $arch names another architecture"
	if command -v lintian >/dev/null; then
		lintian --allow-root --fail-on error,warning wsecho_*_"$arch.deb" || fail "lintian reports errors or warnings"
	elif [ "${CI:-}" = true ]; then
		fail "lintian is not installed, and CI needs it"
	fi
done
host=$work/$(basename "$(echo wsecho_*_linux_"$(go env GOARCH).tar.gz")" .tar.gz)
version=$("$host/bin/wsecho" -version | cut -d ' ' -f 2)
[ -e "wsecho_${version}_linux_amd64.tar.gz" ] || fail "the programs have the version $version, and the files another"
commit=$(git -C "$top" rev-parse HEAD)
"$host/bin/wsecho" -version | grep -q "commit $commit," || fail "the programs do not name the commit $commit"
gzip -dc "$host/share/man/man1/wsecho.1.gz" | grep -q '^\.TH WSECHO 1 ' || fail "the man page has no title"

echo "== bill of materials"
bill=wsecho_$version.spdx.json
for binary in wsecho wsload; do
	go version -m "$host/bin/$binary" | awk '$1 == "dep" { print "pkg:golang/" $2 "@" $3 }' | while read -r module; do
		grep -qF "\"$module\"" "$bill" || fail "$bill lacks $module"
	done
	grep -q "$(sha256sum "$host/bin/$binary" | cut -d ' ' -f 1)" "$bill" || fail "$bill has another checksum of $binary"
done

echo "== sources without git"
mkdir "$work/sources" "$work/path"
git -C "$top" archive HEAD | tar -x -C "$work/sources"
for program in go make sh uname mkdir rm install; do ln -s "$(command -v "$program")" "$work/path/$program"; done
(cd "$work/sources" && PATH="$work/path" make --no-print-directory build >/dev/null)
"$work/sources/bin/wsecho" -version | grep -q "^wsecho ${version%%+*} (commit unknown, " ||
	fail "without git the version is $("$work/sources/bin/wsecho" -version)"
echo "PASS"
