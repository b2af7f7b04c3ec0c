# What code a run would start with: git's commit and the hashes of named files, in the folder it works in. Writes
# nothing, and runs nothing that the folder brings along: no hook, filter, monitor, pager or fetch of its repository.
# After frame.sh and ground.sh. `code_now` is called by preflight; alone it answers `act code`. Request: codedir
# FOLDER|-, then a line `file word NAME` (hashed when it is there and a script) or `file glob PATTERN` each, and for
# `act code` also id RUN_ID, whose own record of its last start then comes along.
# Answer: sections code_dir (status 1: cannot be entered), git (0 `COMMIT clean|dirty|unknown`, 1 no git, 2 no
# repository, 3 git failed: its words), hasher (status 1: none) and code_files, a line each, the name last:
#   sha256:HEX NAME | cksum:SUM-SIZE NAME | large NAME | unread NAME | late NAME | none PATTERN | more COUNT
code_most=200 code_bytes=67108864 code_limit_s=8

can_bound=no; ! timeout -k 9 9 true >/dev/null 2>&1 || can_bound=yes     # not every timeout(1) knows -k
bounded() {                       # bounded SECONDS CMD...: never longer, with or without timeout(1)
  limit=$1; shift
  if [ "$can_bound" = yes ]; then timeout -k 1 "$limit" "$@"; return; fi
  "$@" & child=$!
  {
    while [ "$limit" -gt 0 ] && kill -0 "$child"; do sleep 1; limit=$((limit - 1)); done
    [ "$limit" -gt 0 ] || kill -9 "$child"
  } </dev/null >/dev/null 2>&1 &
  wait "$child"
}

# Every filter driver that any configuration names is emptied, since a filter is a command that status would run.
git_here() {                      # git_here SECONDS ARGUMENT...: in the present folder, of nothing but its own records
  limit_s=$1; shift
  bounded "$limit_s" git --no-pager --no-optional-locks -c core.fsmonitor= -c core.hooksPath=/dev/null "$@" </dev/null
}
git_now() (                       # section content of git, after its status and a line break
  unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_EXTERNAL_DIFF GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
  GIT_ALLOW_PROTOCOL=none GIT_NO_LAZY_FETCH=1 GIT_TERMINAL_PROMPT=0
  export GIT_ALLOW_PROTOCOL GIT_NO_LAZY_FETCH GIT_TERMINAL_PROMPT
  command -v git >/dev/null 2>&1 || { printf '1\n'; exit; }
  commit=$(git_here 3 rev-parse --verify HEAD 2>/dev/null)
  case $? in
    0) ;;
    124 | 137) printf '3\nno answer in time'; exit ;;
    *)
      why=$(git_here 3 rev-parse --verify HEAD 2>&1)
      case $why in *'not a git repository'*) printf '2\n' ;; *) printf '3\n%s' "${why%%"$nl"*}" ;; esac
      exit ;;
  esac
  case $commit in '' | *[!0-9a-f]*) printf '3\n'; exit ;; esac
  state=unknown
  filters=$(git_here 3 config --name-only --get-regexp '^filter\.' 2>/dev/null)
  case $? in 0 | 1) ;; *) printf '0\n%s unknown' "$commit"; exit ;; esac
  set --
  while [ -n "$filters" ]; do
    set -- "$@" -c "${filters%%"$nl"*}="
    case $filters in *"$nl"*) filters=${filters#*"$nl"} ;; *) filters='' ;; esac
  done
  if changed=$(git_here 5 "$@" status --porcelain --untracked-files=no --ignore-submodules=all 2>/dev/null); then
    state=clean; [ -z "$changed" ] || state=dirty
  fi
  printf '0\n%s %s' "$commit" "$state"
)

is_script() {                     # is_script FILE: what a stage would run or be configured by, rather than data
  case $1 in
    *.py | *.sh | *.bash | *.pl | *.rb | *.jl | *.[rR] | *.lua | *.js | *.ipynb | *.yaml | *.yml | *.toml) return 0 ;;
  esac
  [ "$(head -c 2 "$1" 2>/dev/null | tr -d '\000')" = '#!' ]
}
hash_one() {                      # hash_one FILE NAME: one line
  count=$((count + 1))
  if [ "$count" -gt "$code_most" ]; then return; fi
  if [ "$(date +%s)" -gt "$late" ]; then printf 'late %s\n' "$2"; return; fi
  size=$(LS_BLOCK_SIZE=1 ls -lnL "$1" 2>/dev/null | { read -r _ _ _ _ size _; printf %s "$size"; })
  case $size in '' | *[!0-9]*) printf 'unread %s\n' "$2"; return ;; esac
  if [ $((bytes + size)) -gt "$code_bytes" ]; then printf 'large %s\n' "$2"; return; fi
  bytes=$((bytes + size))
  case $hasher in
    sha256sum) sum=$(bounded 5 sha256sum "$1" 2>/dev/null) ;;
    shasum) sum=$(bounded 5 shasum -a 256 "$1" 2>/dev/null) ;;
    openssl) sum=$(bounded 5 openssl dgst -sha256 -r "$1" 2>/dev/null) ;;
    cksum) sum=$(bounded 5 cksum "$1" 2>/dev/null); sum=${sum%%" $1"*}; sum=${sum%%" "*}-${sum##*" "} ;;
  esac
  sum=${sum#\\}; sum=${sum%%" "*}
  case $hasher:$sum in
    cksum:*[!0-9-]* | cksum:- | *:) printf 'unread %s\n' "$2" ;;
    cksum:*) printf 'cksum:%s %s\n' "$sum" "$2" ;;
    *:*[!0-9a-f]*) printf 'unread %s\n' "$2" ;;
    *) printf 'sha256:%s %s\n' "$sum" "$2" ;;
  esac
}
hash_each() {                     # hash_each KIND NAME...: those that are plain files, each once
  kind=$1 any=no; shift
  for name do
    case $name in *"$nl"*) continue ;; '~/'*) file=$HOME/${name#??} ;; /*) file=$name ;; *) file=./$name ;; esac
    [ -f "$file" ] && { [ "$kind" = glob ] || is_script "$file"; } || continue
    any=yes
    case $seen in *"$nl$name$nl"*) continue ;; esac
    [ "$count" -ge "$code_most" ] || seen=$seen$name$nl
    hash_one "$file" "$name"
  done
  [ "$any" = yes ]
}
files_now() (                     # the lines of code_files; the present folder is the run's
  count=0 bytes=0 seen=$nl late=$(($(date +%s) + code_limit_s)) left=$in_files
  while [ -n "$left" ]; do
    entry=${left%%"$nl"*} left=${left#*"$nl"}
    case $entry in
      'word '*) hash_each word "${entry#word }" ;;
      'glob '*)
        pattern=${entry#glob }
        case $pattern in '~/'*) pattern=$HOME/${pattern#??} ;; esac
        # A pattern is data: with an empty IFS it is one word whatever it holds, and is only matched.
        was=$IFS; IFS=''
        # shellcheck disable=SC2086 # to be matched
        set -- $pattern
        IFS=$was
        hash_each glob "$@" || printf 'none %s\n' "$pattern" ;;
    esac
  done
  [ "$count" -le "$code_most" ] || printf 'more %s\n' "$((count - code_most))"
)
code_now() {
  path_of "${in_codedir:--}" "$HOME"
  # A folder on a mount that hangs must not take the whole visit with it.
  if ! bounded 3 ls -d "$path/." >/dev/null 2>&1 || ! (cd -- "$path") 2>/dev/null; then section code_dir - 1 "$path"; return; fi
  section code_dir - 0 "$path"
  said=$(cd -- "$path" && git_now)
  case $said in *"$nl"*) section git - "${said%%"$nl"*}" "${said#*"$nl"}" ;; *) section git - "${said:-3}" '' ;; esac
  hasher=''
  for name in sha256sum shasum openssl cksum; do
    ! command -v "$name" >/dev/null 2>&1 || { hasher=$name; break; }
  done
  if [ -z "$hasher" ]; then section hasher - 1 ''; return; fi
  section hasher - 0 "$hasher"
  section code_files - 0 "$(cd -- "$path" && files_now)"
}

if [ "${in_act:-}" = code ]; then
  plain "${in_id:-}" || refuse 12 'not a run id'
  known=$state/runs/$in_id/code.json
  [ -L "$known" ] || [ ! -f "$known" ] || section code_known - 0 "$(head -c 65537 "$known")"
  code_now
  finish
fi
