#!/usr/bin/env bash
# Builds the Debian package: programs, units, settings, man pages, documentation and example files. Prints the
# package's path. With --programs DIRECTORY, it takes programs that are already built; --out DIRECTORY says where the
# package goes. The programs contain Swift's libraries, so that the target machine needs no Swift.
set -euo pipefail
cd "$(dirname "$0")/../.."
. config/dev/common.sh

programs="" out=.build/deb
while [ $# -gt 0 ]; do
    case $1 in
        --programs) programs=$2 ;;
        --out) out=$2 ;;
        *) die "unknown argument $1: use --programs DIRECTORY or --out DIRECTORY" ;;
    esac
    shift 2
done
names=(gavelcast-gateway gavelcast-bidapi gavelcast-loadtest)
if [ -z "$programs" ]; then
    for name in "${names[@]}"; do
        swift build -c release --static-swift-stdlib --product "$name" >&2
    done
    programs=.build/release
fi

version=$("$programs/gavelcast-gateway" --version)
version=${version##* }
# Reproducible: every file carries the time of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
architecture=$(dpkg --print-architecture)
mkdir -p "$out"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root="$folder/root"
mkdir "$root"

for name in "${names[@]}"; do
    install -D -m 755 "$programs/$name" "$root/usr/bin/$name"
    strip --strip-unneeded "$root/usr/bin/$name"
    section=8
    [ "$name" != gavelcast-loadtest ] || section=1
    page="$root/usr/share/man/man$section/$name.$section"
    mkdir -p "${page%/*}"
    # help2man knows these headings in its own spelling.
    printf '#!/bin/sh\n"%s" "$@" | sed "s/^USAGE:/Usage:/; s/^SETTINGS:/Options:/; s/^COMMANDS:/Commands:/; s/^EXIT STATUS:/Exit status:/"\n' \
        "$(realpath "$programs/$name")" >"$folder/$name"
    chmod +x "$folder/$name"
    help2man --no-info --section="$section" --source="gavelcast $version" \
        --include="config/debian/man/$name.h2m" --output="$page" "$folder/$name"
    gzip -9 --no-name "$page"
done
for name in gateway bidapi; do
    install -D -m 644 "config/systemd/gavelcast-$name.service" "$root/lib/systemd/system/gavelcast-$name.service"
    install -D -m 644 "config/$name.yml" "$root/etc/gavelcast/$name.yml"
done
install -D -m 644 config/systemd/sysusers.conf "$root/usr/lib/sysusers.d/gavelcast.conf"
doc="$root/usr/share/doc/gavelcast"
mkdir -p "$doc/examples"
install -m 644 README.md docs/*.md config/debian/copyright "$doc"
gzip -9 --no-name <CHANGELOG.md >"$doc/CHANGELOG.md.gz"
date=$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
printf 'gavelcast (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" \
    "$(sed -n 's/^Maintainer: //p' config/debian/control)" "$date" | gzip -9 --no-name >"$doc/changelog.gz"
cp -r config/nginx config/haproxy config/prometheus config/grafana config/redis config/topologies config/sysctl \
    config/kubernetes loadtest/scenarios "$doc/examples"

mkdir -p "$root/DEBIAN"
install -m 644 config/debian/conffiles "$root/DEBIAN"
install -m 755 config/debian/postinst config/debian/prerm config/debian/postrm "$root/DEBIAN"
# dpkg-shlibdeps needs the folder of a source package. Programs that were built for tests link to the libraries of a
# Swift toolchain. No package owns those libraries, hence --ignore-missing-info.
mkdir -p "$folder/source/debian"
printf 'Source: gavelcast\n\nPackage: gavelcast\nArchitecture: any\n' >"$folder/source/debian/control"
depends=$(cd "$folder/source" && dpkg-shlibdeps -O --ignore-missing-info --warnings=0 "${names[@]/#/$root/usr/bin/}")
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/${depends#shlibs:Depends=}/" \
    config/debian/control >"$root/DEBIAN/control"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
chmod -R go-w "$root"

package="$out/gavelcast_${version}_$architecture.deb"
dpkg-deb --root-owner-group "${GAVELCAST_DEB_COMPRESSION:--Zxz}" --build "$root" "$package" >&2
echo "$package"
