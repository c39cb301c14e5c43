#!/bin/sh
# Prints the Debian version for the version of the programs ($1) and the date of the commit, such as 20260131120000 ($2).
# Later commits have higher versions, and a release has a higher version than the commits before it:
#
#	1.2.3                         1.2.3
#	1.2.3-rc.1                    1.2.3~rc.1
#	1.2.3-dev+gabcdef0            1.2.3~dev+20260131120000.gabcdef0
#	1.2.3-dev                     1.2.3~dev+20260131120000             without git
#	…+gabcdef0.dirty, …+dirty     ….gabcdef0.dirty, …+dirty            with changed files
set -eu
version=$1 date=$2
base=${version%%+*} build=
case $version in
*+*) build=${version#*+} ;;
esac
case $base in
*-dev) build=$date${build:+.$build} ;;
esac
case $base in
*-*) base=${base%%-*}~${base#*-} ;;
esac
# Replace characters that a Debian version must not contain. A hyphen would start a Debian revision.
printf '%s\n' "$base${build:+"+$build"}" | tr -c '0-9A-Za-z.+~\n' .
