#!/bin/sh
# Prints the Debian version of what `git describe --tags --always --dirty` says ($1), for a commit
# of a date as 20260131120000 ($2). Later commits have higher versions, and tags are higher than what leads to them:
#
#	v1.2.3                1.2.3
#	v1.2.3-rc.1           1.2.3~rc.1
#	v1.2.3-4-gabcdef0     1.2.3+4.gabcdef0
#	abcdef0               0~20260131120000.gabcdef0      there is no tag
#	…-dirty               …+dirty
set -eu
describe=$1 date=$2
dirty=
case $describe in
*-dirty) describe=${describe%-dirty} dirty=+dirty ;;
esac
case $describe in
v[0-9]*)
	version=${describe#v} since=
	case $version in
	*-[0-9]*-g*)
		commit=${version##*-} version=${version%-*}
		since=+${version##*-}.$commit version=${version%-*}
		;;
	esac
	case $version in
	*-*) version=${version%%-*}~${version#*-} ;;
	esac
	version=$version$since
	;;
*) version=0~$date.g$describe ;;
esac
# Whatever else a tag may have, a version may not; a hyphen would begin a revision.
printf '%s\n' "$version$dirty" | tr -c '0-9A-Za-z.+~\n' .
