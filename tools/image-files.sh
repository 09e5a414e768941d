#!/usr/bin/env bash
# Lays out what the images are made of: stripped programs, what each was built from (CycloneDX, read out of the program
# itself, into which `cargo auditable` has written it), and their symbols, which stay out of the images.
#   tools/image-files.sh BUILT OUT     from BUILT, such as target/release, into OUT/producer … OUT/sandbox and OUT/symbols;
#                                      OUT/state is an empty folder, for images to own
# Programs that were built without `cargo auditable`, as those of development builds, have no such list. Needs binutils.
set -euo pipefail

built=$1 out=$2
mkdir -p "$out/state"
for image in producer worker query cli sandbox; do
  program=orderfleet-$image
  [ $image = cli ] && program=orderfleet
  mkdir -p "$out/$image/usr/local/bin" "$out/$image/usr/share/sbom" "$out/symbols"
  objcopy --only-keep-debug "$built/$program" "$out/symbols/$program.debug"
  strip --strip-all --remove-section=.comment -o "$out/$image/usr/local/bin/$program" "$built/$program"
  if objdump --section-headers "$built/$program" | grep -q '\.dep-v0'; then
    auditable2cdx "$built/$program" >"$out/$image/usr/share/sbom/$program.cdx.json"
  else
    rm -f "$out/$image/usr/share/sbom/$program.cdx.json"
    echo "image-files: $program has no SBOM, it was built without cargo auditable" >&2
  fi
done
