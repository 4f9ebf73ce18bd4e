#!/usr/bin/env bash
# scripts/check must fail on each planted violation, name it, and pass a clean tree.
set -euo pipefail
check=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/scripts/check
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

clean() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{core/base,core/wire,policy,store,rollout,ppo,app,tests,scripts,docs}
  printf '#include "core/base/err.h"\nint a;\n' >"$tree/policy/a.c"
  printf '#include <zmq.h>\n' >"$tree/core/wire/socket.c"
  printf '#include <sqlite3.h>\n' >"$tree/store/open.c"
  printf '#!/usr/bin/env bash\nset -euo pipefail\n' >"$tree/scripts/go"
  chmod +x "$tree/scripts/go"
}
# what, word of the message, command that plants it
planted() {
  clean
  (cd "$tree" && eval "$3")
  local out status=0
  out=$("$check" "$tree") || status=$?
  if [ "$status" = 0 ] || ! grep -q -- "$2" <<<"$out"; then
    echo "NOT CAUGHT: $1 (exit status $status): $out"
    failed=1
  fi
}

clean
"$check" "$tree" || { echo "the clean tree does not pass"; failed=1; }
planted "policy includes ppo" 'policy/b.c.*floor' 'echo "#include \"ppo/loss.h\"" >policy/b.c'
planted "rollout includes ppo" 'rollout/b.c' 'echo "#include \"ppo/loss.h\"" >rollout/b.c'
planted "ppo includes rollout" 'ppo/b.h' 'echo "#include \"rollout/worker.h\"" >ppo/b.h'
planted "base includes policy" 'core/base/b.c' 'echo "#  include \"policy/a.h\"" >core/base/b.c'
planted "store includes policy" 'store/b.c' 'echo "#include \"policy/a.h\"" >store/b.c'
planted "sqlite outside store" 'only store/' 'echo "#include <sqlite3.h>" >app/b.c'
planted "zmq outside wire" 'only core/wire/' 'echo "#include <zmq.h>" >ppo/b.c'
planted "msgpack outside wire" 'only core/wire/' 'echo "#include <msgpack/pack.h>" >ppo/b.c'
planted "cuda outside its folder" 'only core/tensor/cuda/' 'echo "#include <cuda_runtime.h>" >policy/b.c'
planted "a long file" '601 lines' 'for i in $(seq 601); do echo "int a$i;"; done >ppo/b.c'
planted "a word for later" 'left for later' 'echo "/* TO""DO: more */" >ppo/b.c'
planted "a path of a machine" 'path of one machine' 'echo "char *p = \"/ho""me/me/x\";" >ppo/b.c'
planted "fast-math" 'fast-math' 'echo "add_compile_options(-ffast-""math)" >CMakeLists.txt'
planted "a script that cannot run" 'cannot be run' 'chmod -x scripts/go'
planted "a script that is no bash" 'not valid bash' 'echo "if" >>scripts/go'
planted "a script without set -e" 'lacks set' 'echo >scripts/go'

# long functions are warned of, not refused
clean
{ echo "void f(void)"; echo "{"; for i in $(seq 90); do echo "	g($i);"; done; echo "}"; } >"$tree/ppo/b.c"
out=$("$check" "$tree") || { echo "a long function is refused: $out"; failed=1; }
grep -q 'warning: ppo/b.c:2: a function of 91 lines' <<<"$out" || { echo "a long function is not warned of: $out"; failed=1; }
exit "$failed"
