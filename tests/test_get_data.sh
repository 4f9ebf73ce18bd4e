# scripts/get-data: links what is there, fetches what is not, refuses what has another checksum.
set -euo pipefail
here=$TENFOLD_SOURCE
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

mkdir -p "$dir/origin/sub" "$dir/local/set/sub"
echo one >"$dir/origin/one.txt"
echo two >"$dir/origin/sub/two.txt"
cp "$dir/origin/one.txt" "$dir/local/set/"
hash() { sha256sum "$1" | cut -d ' ' -f 1; }
cat >"$dir/set.list" <<EOF
# title: a set
# licence: MIT
# from: file://$dir/origin
# local: set
$(hash "$dir/origin/one.txt") one.txt one.txt
$(hash "$dir/origin/sub/two.txt") sub/two.txt sub/two.txt
EOF
get() { "$here/scripts/get-data" set --list "$dir/set.list" --from "$dir/local" --to "$1"; }

if command -v curl >/dev/null; then
  get "$dir/a" | grep -q '1 linked, 1 fetched, 0 there already' || fail "one is linked, the other fetched"
  cmp "$dir/a/sub/two.txt" "$dir/origin/sub/two.txt"
  get "$dir/a" | grep -q '0 linked, 0 fetched, 2 there already' || fail "nothing to do the second time"
  echo changed >"$dir/origin/sub/two.txt"
  get "$dir/b" 2>"$dir/err" && fail "a changed file was taken"
  grep -q 'SHA-256 differs' "$dir/err" || fail "the message does not say why"
  [ ! -e "$dir/b/sub/two.txt" ] || fail "the changed file was left there"
fi
echo changed >"$dir/local/set/one.txt"
get "$dir/c" 2>"$dir/err" && fail "a changed local file was linked"
grep -q 'SHA-256 differs' "$dir/err" || fail "the message does not say why"
"$here/scripts/get-data" no-such-set 2>"$dir/err" && fail "an unknown set was accepted"
grep -q 'hh-harmless' "$dir/err" || fail "the known sets are not named"

# the sets that the configurations name, where they are
shared=${TENFOLD_DATA:-$here/../shared/data}
for list in "$here"/configs/data/*.list; do
  name=$(basename "$list" .list)
  if [ ! -d "$shared/$(sed -n 's/^# local: //p' "$list")" ]; then
    echo "skipped: $name is not in $shared"
    continue
  fi
  "$here/scripts/get-data" "$name" --from "$shared" --to "$dir/real/$name" | grep -q ' 0 fetched' || fail "$name"
done
