# Putting things onto the box: the shipped tool, a run with its name, one file of a run. What is sent follows the
# request as bytes, and all of it is read whatever goes wrong. Nothing half-written ever gets its final name.
# Request: act, and what that act reads. After frame.sh and ground.sh.
take() {                          # take SIZE FILE: the next SIZE bytes sent, even when the disk cannot hold them
  if [ "$1" -eq 0 ]; then printf '' >"$2"; return; fi
  dd ibs=1 obs=65536 count="$1" 2>/dev/null | { cat >"$2" || { cat >/dev/null; false; }; }
}
number() { case $1 in '' | *[!0-9]*) refuse 12 "not a size: $1" ;; esac; }
named() { plain "$2" || refuse 12 "not a $1" "$2"; }
sum_is() {                        # sum_is SUM FILE...: is this what was sent?
  sum=$1; shift
  [ "$(cat "$@" 2>/dev/null | cksum | sed 's/ .*//')" = "$sum" ]
}
full() {                          # full WHAT WORDS FOLDER
  refuse 2 "cannot write $1: $(printf %s "${2:-no reason given}" | tail -n 1)" "$(df_line "$3")"
}
replace() {                       # replace SUM FROM TO FOLDER: the file FROM, already whole, becomes TO in FOLDER
  settle "$2"
  why=$(move "$2" "$3" 2>&1) || full "$3" "${why:-it is no plain file}" "$4"
  settle "$4"
  sum_is "$1" "$3" || refuse 12 "$3 reads back other than it was written"
}
receive() {                       # receive FOLDER FILE: in_size bytes, checked; else refused with FILE removed
  why=$({ mkdir -p "$1" && [ -w "$1" ]; } 2>&1) || { take "$in_size" /dev/null; full "$1" "$why" "$HOME"; }
  why=$(take "$in_size" "$2" 2>&1) || { rm -f "$2"; full "$2" "$why" "$1"; }
  sum_is "$in_sum" "$2" || refuse 12 'what was sent arrived damaged or cut'
}
tidy() {                          # tidy PATH...: what must not stay, however this script ends
  tidy=$1
  trap 'rm -rf "$tidy"' EXIT
  trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
}

ship() {                          # name size sum: the tool under its content's name
  named 'name of the shipped tool' "$in_name"; number "$in_size"
  target=$share/$in_name
  tidy "$share/.$in_name.$short"
  receive "$share" "$tidy"
  sweep "$share" '.*.pyz.*'
  if [ -f "$target" ] && [ ! -L "$target" ] && sum_is "$in_sum" "$target"; then
    section wrote - 0 no
  else
    replace "$in_sum" "$tidy" "$target" "$share"
    section wrote - 0 yes
  fi
  ipc_command 2>/dev/null || rm -f "$share/.ipc.$short"
  section path - 0 "$target"
}

ipc_text() {                      # the command `ipc` of this account: this tool's, or the newest when it is gone
  printf '#!/bin/sh\n# ipc: asks and steers the loops that run here. Put here by babysit; nothing of it breaks when it goes.\n'
  printf 'own=%s\n' "$in_name"
  cat <<'END'
self=$(readlink -f "$0") here=${self%/*} tool=$here/$own
if [ ! -f "$tool" ]; then
  tool=
  for each in "$here"/onbox-????????????.pyz; do
    if [ -f "$each" ] && { [ -z "$tool" ] || [ "$each" -nt "$tool" ]; }; then tool=$each; fi
  done
fi
if [ -z "${LOOPCTL_DIR:-}" ] && [ -f "$here/loops" ] && IFS= read -r LOOPCTL_DIR <"$here/loops"; then export LOOPCTL_DIR; fi
[ -n "$tool" ] || { echo "ipc: its tool is gone from $here: babysit arm or babysit ipc BOX list brings it" >&2; exit 2; }
for python in python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python; do
  command -v "$python" >/dev/null 2>&1 || continue
  "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
  exec "$python" -I -S "$tool" ipc "$@"
done
echo 'ipc: there is no Python 3.8 or newer' >&2
exit 2
END
}
ipc_command() {                   # beside the tool, whole at any moment; a box that cannot keep it can still be asked
  sweep "$share" '.ipc.*'
  plain_or_none "$share/ipc" && [ "$(ipc_text)" != "$(cat "$share/ipc" 2>/dev/null)" ] || return 0
  ipc_text >"$share/.ipc.$short" && chmod 700 "$share/.ipc.$short" && move "$share/.ipc.$short" "$share/ipc"
}
plain_or_none() {                 # plain_or_none PATH: a plain file, or nothing
  [ ! -L "$1" ] && { [ -f "$1" ] || [ ! -e "$1" ]; }
}

link() {                          # folder: `ipc` there, as long as nothing else has that name; said by one word
  path_of "$in_folder" "$HOME"
  word=failed why=''
  if ! plain_or_none "$share/ipc" || [ ! -f "$share/ipc" ]; then word=missing
  elif [ ! -d "$path" ]; then why="there is no folder $path"
  elif [ "$(readlink "$path/ipc" 2>/dev/null)" = "$share/ipc" ]; then word=there
  elif [ -e "$path/ipc" ] || [ -L "$path/ipc" ]; then word=taken
  elif why=$(ln -s "$share/ipc" "$path/ipc" 2>&1); then word=made; fi
  section word - 0 "$word"
  section at - 0 "$path/ipc"
  section why - 0 "$why"
}

put() {                           # id name size sum: one file of a run, replaced as a whole
  named 'run id' "$in_id"; named 'file name' "$in_name"; number "$in_size"
  run=$state/runs/$in_id
  if [ -L "$run" ] || [ ! -d "$run" ]; then
    take "$in_size" /dev/null
    refuse 3 "no run $in_id on the box" "$run"
  fi
  tidy "$run/.$in_name.$short"
  receive "$run" "$tidy"
  sweep "$run" ".$in_name.*"
  replace "$in_sum" "$tidy" "$run/$in_name" "$run"
  section path - 0 "$run/$in_name"
}

entries() {                       # entries COMMAND: runs it for each file of the request, with its path and size
  was=$IFS
  set -f; IFS=$nl
  # shellcheck disable=SC2086 # one entry a line
  set -- "$1" $in_files
  IFS=$was; set +f
  each=$1; shift
  for entry; do "$each" "${entry% *}" "${entry##* }" || return; done
}
checked() {
  number "$2"
  case $1 in
    '' | *[!A-Za-z0-9._/-]* | [!A-Za-z0-9]* | */[!A-Za-z0-9]* | */ | */*/*) refuse 12 'not a file of a run' "$1" ;;
  esac
}
drained() { take "$2" /dev/null; }
written() {
  [ "$well" = yes ] || { drained "$@"; return; }
  case $1 in */*) mkdir -p "$new/${1%/*}" || well=no ;; esac
  take "$2" "$new/$1" || well=no
}
shown() { cat "$new/$1"; }
write_run() {                     # $in_files to $new, whole and on disk; reasons on stderr; 3: not what was sent
  well=yes
  mkdir "$new" "$new/stages" "$new/markers" || well=no
  entries written
  [ "$well" = yes ] || return 1
  [ "$(entries shown | cksum | sed 's/ .*//')" = "$in_sum" ] || return 3
  settle "$new"/*/* "$new"/* "$new"
}
follow() {                        # the name points at its owner; again when somebody else came after us meanwhile
  for _ in 1 2 3 4 5 6 7 8; do
    owner_of "$in_run"
    [ -n "$owner" ] && [ "$(readlink "$names/$in_run")" != "$owner" ] || break
    ln -sn "$owner" "$names/.to-$short" && move "$names/.to-$short" "$names/$in_run" || break
  done
  rm -f "$names/.to-$short"
}

loops_told() {                    # the command `ipc` looks where the newest run here was told to have its loops
  if [ "${in_loops:--}" = - ]; then rm -f "$share/loops"; return; fi
  path_of "$in_loops" -
  mkdir -p "$share" && printf '%s\n' "$path" >"$share/.loops.$short" && move "$share/.loops.$short" "$share/loops" ||
    rm -f "$share/.loops.$short"
}
claim() {                         # run id expect sum loops file...: the run's folder, and its name if nobody has it
  named 'run name' "$in_run"; named 'run id' "$in_id"
  [ "$in_expect" = - ] || named 'run id' "$in_expect"
  entries checked
  runs=$state/runs names=$state/names run=$state/runs/$in_id made=no took=no
  new=$runs/.new-$in_id.$short
  why=$(mkdir -p "$runs" "$names" 2>&1) || { entries drained; full "$runs" "$why" "$HOME"; }
  sweep "$runs" '.new-*'; sweep "$names" '.to-*'
  owner_of "$in_run"
  before=$owner
  if [ -n "$before" ] && [ "$before" != "$in_id" ] && [ "$before" != "$in_expect" ] || [ -d "$run" ]; then
    entries drained
  else
    tidy "$new"
    why=$(write_run 2>&1)
    case $? in
      0) ;;
      3) refuse 12 'the run arrived damaged or cut' ;;
      *) rm -rf "$new"; full "$run" "$why" "$runs" ;;
    esac
    # A visit with this very run id may have been first; what it wrote is the same.
    if why=$(move "$new" "$run" 2>&1); then made=yes
    elif [ ! -d "$run" ]; then full "$run" "$why" "$runs"; fi
    settle "$runs"
  fi
  why='' taken=''
  if [ -L "$names/.after-$in_id" ]; then :    # it was the owner once, and another came after it
  elif [ -z "$before" ]; then taken=$names/$in_run
  elif [ "$before" = "$in_expect" ] && [ "$before" != "$in_id" ]; then taken=$names/.after-$before; fi
  if [ -n "$taken" ] && why=$(ln -sn "$in_id" "$taken" 2>&1); then took=yes; fi
  follow
  settle "$names"
  if [ "$owner" != "$in_id" ] && [ "$made" = yes ]; then
    # Ours was never anybody's: it goes in one step, so that no half of it is ever seen.
    move "$run" "$new" && rm -rf "$new"
    settle "$runs"
  fi
  if [ -z "$owner" ] || { [ -n "$taken" ] && [ "$took" = no ] && [ "$owner" = "$before" ]; }; then
    full "$names/$in_run" "$why" "$names"
  fi
  [ "$took" = no ] || loops_told 2>/dev/null
  section owner - 0 "$owner"
  section fresh - 0 "$took"
}

case $in_act in
  ship | put | claim | link) "$in_act"; finish ;;
  *) refuse 12 'no such act' ;;
esac
