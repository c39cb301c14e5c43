#!/bin/sh
# Prints the Debian version for the output of `git describe --tags --always --dirty` ($1) and the date of the commit,
# such as 20260131120000 ($2). Later commits have higher versions, and a tag has a higher version than the commits
# before it:
#
#	v1.2.3                1.2.3
#	v1.2.3-rc.1           1.2.3~rc.1
#	v1.2.3-4-gabcdef0     1.2.3+4.gabcdef0
#	abcdef0               0~20260131120000.gabcdef0      without a tag
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
# Replace characters of a tag that a version must not contain. A hyphen would start a Debian revision.
printf '%s\n' "$version$dirty" | tr -c '0-9A-Za-z.+~\n' .
