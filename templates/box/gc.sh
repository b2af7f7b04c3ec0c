# What old runs left on this box, judged here and nowhere else, and removed only when that is asked for. After frame.sh,
# ground.sh, records.sh and scan.sh. Request: state, days N, superseded yes|no, finished yes|no, remove yes|no.
# Answer: a section `old` each, `KIND BYTES DAYS NAME`, KIND tool, part or run, status 0 would go (or went), 1 could not
# be removed, 2 kept although it is old: its last word says why; and `more`, how many were not looked at.
# Kinds: `part` what a cut visit left, after a day; `tool` a shipped file that no plan names; `run` a run's folder whose
# attempt has an end record, of which nothing lives and no lock is held: with `superseded` those whose name has another
# owner, with `finished` also those that ended well and still have it. Names stay, so that no other run gets a dead one.
gc_most=200
number "${in_days:-}" || refuse 12 'days is no number'
remove=${in_remove:-no} looked=0 more=0 now=$(date +%s)

plainly() {                       # plainly PATH: ours, and what it looks like: no link stands for it
  [ ! -L "$1" ] && [ -O "$1" ]
}
older() {                         # older PATH DAYS: last changed so many whole days ago, or more
  [ "$2" -le 0 ] || [ -n "$(find "$1" -prune -mtime +$(($2 - 1)) 2>/dev/null)" ]
}
days_of() {                       # days_of PATH: sets days, by the file's time
  then=$(date -r "$1" +%s 2>/dev/null) || then=$now
  number "$then" || then=$now
  days=$(((now - then) / 86400))
  [ "$days" -ge 0 ] || days=0
}
bytes_of() {                      # bytes_of PATH: the sizes of all plain files in it; no link is followed
  LS_BLOCK_SIZE=1 find "$1" -type f -exec ls -ln {} + 2>/dev/null | {
    total=0
    while read -r _ _ _ _ size _; do ! number "$size" || total=$((total + size)); done
    printf %s "$total"
  }
}
room_left() { looked=$((looked + 1)); [ "$looked" -le "$gc_most" ] || { more=$((more + 1)); return 1; }; }
old() { section old - "$1" "$2 $3 $4 $5${6:+ $6}"; }

part() {                          # part PATH: half of something that never was
  case ${1##*.} in *[!0-9a-f]*) return 0 ;; esac
  plainly "$1" && older "$1" 1 && room_left || return 0
  bytes=$(bytes_of "$1"); days_of "$1"; rc=0
  if [ "$remove" = yes ]; then rm -rf "$1" 2>/dev/null || rc=1; fi
  old "$rc" part "$bytes" "$days" "${1##*/}"
}

named_here() {                    # named_here STATE FILE: does the plan of a run there name this tool?
  for gc_plan in "$1"/runs/*/plan; do
    [ -f "$gc_plan" ] && [ ! -L "$gc_plan" ] || continue
    gc_line=$(sed -n '/^onbox=/{p;q;}' "$gc_plan" 2>/dev/null)
    [ "${gc_line##*/}" != "$2" ] || return 0
  done
  return 1
}
in_use() {                        # in_use FILE: does a process have it on its way to modules? Its own search has brackets
  [ -n "$(cat /proc/[0-9]*/environ 2>/dev/null | tr '\000' '\n' | sed -n "/^PYTHONPATH=.*[o]${1#o}/{s/.*/x/p;q;}")" ]
}
tool() {                          # tool PATH: what nobody has wanted since its time was last set (by preflight)
  name=${1##*/}
  case $name in onbox-????????????.pyz) ;; *) return 0 ;; esac
  case ${name#onbox-} in *[!0-9a-f]*.pyz) return 0 ;; esac
  least=$in_days; [ "$least" -ge 1 ] || least=1
  plainly "$1" && [ -f "$1" ] && older "$1" "$least" || return 0
  if named_here "$state" "$name" || named_here "$HOME/.local/state/babysit" "$name" || in_use "$name"; then return 0; fi
  room_left || return 0
  bytes=$(bytes_of "$1"); days_of "$1"; rc=0
  if [ "$remove" = yes ]; then rm -f "$1" 2>/dev/null || rc=1; fi
  old "$rc" tool "$bytes" "$days" "$name"
}

over() {                          # over DIR: its newest attempt has an end record; sets ended to how
  ended=''
  load "$1/attempt" && number "$r_attempt" || return 1
  newest=$r_attempt
  load "$1/end" && [ "$r_attempt" = "$newest" ] || return 1
  case $r_state in done | failed | stopped) ended=$r_state ;; *) return 1 ;; esac
}
wanted() {                        # wanted ID: may a run of this name and end be asked for?
  owner_of "$p_run"
  if [ -n "$owner" ] && [ "$owner" != "$1" ]; then [ "${in_superseded:-no}" = yes ]; return; fi
  [ "${in_finished:-no}" = yes ] && [ "$ended" = done ]
}
hold() {                          # hold FD LOCK: 0 it is ours, or only looked for and not there; else why says more
  plain_file "$2" || { why='its locks are no plain files'; return 1; }
  [ -e "$2" ] || [ "$remove" = yes ] || return 0
  (umask 077; mkdir -p "${2%/*}" && : >>"$2") 2>/dev/null || { why='its locks cannot be opened'; return 1; }
  case $1 in 9) exec 9>>"$2" ;; *) exec 8>>"$2" ;; esac
  take "$1" x 0 || { why='its lock is held'; return 1; }
}
goes() {                          # goes ID DIR: judged again under both of its locks, it goes in one step; else why
  case $p_lockdir in "$2" | /*/"$1") ;; *) why='its locks lie in no folder of its own'; return 2 ;; esac
  hold 9 "$p_lockdir/chain.lock" && hold 8 "$p_lockdir/stage.lock" || return 2
  over "$2" && wanted "$1" || { why='it moved on'; return 2; }
  scan "$p_lockdir/stage.lock"
  case $alive in
    '') ;;
    '?') why='/proc cannot be searched'; return 2 ;;
    *) why="of it lives $alive"; return 2 ;;
  esac
  [ "$remove" = yes ] || return 0
  move "$2" "$state/runs/.new-$1.$short" && rm -rf "$state/runs/.new-$1.$short" || { why='it cannot be moved'; return 1; }
  [ "$p_lockdir" = "$2" ] || { rm -f "$p_lockdir/chain.lock" "$p_lockdir/stage.lock"; rmdir "$p_lockdir"; } 2>/dev/null
  return 0
}
run() {                           # run DIR
  id=${1##*/}
  plain "$id" && plainly "$1" && [ -d "$1" ] && [ -f "$1/end" ] && older "$1/end" "$in_days" || return 0
  read_plan "$1" 2>/dev/null && [ "$p_run_id" = "$id" ] && plain "$p_run" || return 0
  over "$1" && wanted "$id" && room_left || return 0
  bytes=$(bytes_of "$1"); days_of "$1/end"
  why=''; goes "$id" "$1"; rc=$?
  exec 9>&- 8>&-
  old "$rc" run "$bytes" "$days" "$id" "$ended${why:+: $why}"
}

for path in "$state"/runs/.new-*.????????; do [ ! -d "$path" ] || part "$path"; done
for path in "$share"/.onbox-*.pyz.????????; do [ ! -f "$path" ] || part "$path"; done
if [ "${in_superseded:-no}" = yes ] || [ "${in_finished:-no}" = yes ]; then
  for path in "$state"/runs/*; do run "$path"; done
fi
for path in "$share"/onbox-*.pyz; do tool "$path"; done
section more - 0 "$more"
finish
