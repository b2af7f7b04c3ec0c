# Which living processes are a run's. After records.sh. Functions only; their own variables begin with s_.
# Three witnesses, since each has a case that only it sees: fd 8 open on the stage lock (an environment can be
# wiped), the tag in the environment (descriptors can be closed), the mark among the limits (it survives both).
#
#   scan_search PASSES LIMIT_S STAGE_LOCK...    looks through /proc, for any number of runs at once
#       s_hits = '?' when the search did not end in time or did not find itself: unknown, never "none"
#       else lines `PID lock STAGE_LOCK` | `PID tag TAG/STAGE` | `PID mark BYTES`, of all runs on the box.
#       PASSES 1 for a look; 2 where something is done about it (a fork may be newer than the list of pids).
#   scan_of STAGE_LOCK     after scan_search, for the run whose plan read_plan read last (STAGE_LOCK as given above)
#       alive       = '' nothing | 'PID PID ...' | '?' unknown
#       alive_lines = one line each, `PID WITNESS COMM`, WITNESS tag, mark or (no other saw it) lock; COMM is the
#                     box's text. The chain itself is among them, by its lock.
#       What a stamped stage with leftovers=allow left behind does not count. The calling shell itself does not.
#   scan STAGE_LOCK        both, two passes, 20 s: for those who look at one run
#
# Several runs:  scan_search 1 8 LOCK_A LOCK_B; read_plan DIR_A && scan_of LOCK_A; read_plan DIR_B && scan_of LOCK_B
s_mark_self=1125899906842624      # bytes, 1 PiB: every stage's mark is greater
s_timeout=''                      # whether there is a `timeout` that works, once somebody asked

# Run by a shell of its own, so that it can be ended: reading about a process that hangs in the kernel can hang.
s_search='passes=$1; shift
if ulimit -S -m 1099511627776 2>/dev/null; then echo "$$ self marked"; else echo "$$ self"; fi
fast() {
  LC_ALL=C grep -aszoH -e "BABYSIT_SCAN=self" -e "BABYSIT_TAG=[A-Za-z0-9._-]*/[A-Za-z0-9._-]*" \
    -e "Max resident set  *[0-9]\{16,17\} " /proc/[0-9]*/environ /proc/[0-9]*/limits 2>/dev/null | tr "\000" "\n" |
    LC_ALL=C sed -n -e "s|^/proc/\([0-9]*\)/environ:BABYSIT_SCAN=|\1 scan |p" \
      -e "s|^/proc/\([0-9]*\)/environ:BABYSIT_TAG=|\1 tag |p" \
      -e "s|^/proc/\([0-9]*\)/limits:Max resident set  *\([0-9]*\) .*|\1 mark \2|p"
}
slow() {
  for f in /proc/[0-9]*/environ /proc/[0-9]*/limits; do echo; echo "@$f"; cat "$f" 2>/dev/null; done | tr "\000" "\n" |
    LC_ALL=C sed -n -e "/^@\/proc\/[0-9]*\//{s|^@/proc/\([0-9]*\)/.*|\1|;h;d;}" \
      -e "/^BABYSIT_SCAN=self$/{g;s|$| scan self|p;d;}" \
      -e "/^BABYSIT_TAG=/{s|^BABYSIT_TAG=||;G;s|^\(.*\)\n\(.*\)$|\2 tag \1|p;d;}" \
      -e "/^Max resident set  *[0-9]\{16,17\} /{s|^Max resident set  *\([0-9]*\) .*|\1|;G;s|^\(.*\)\n\(.*\)$|\2 mark \1|p;}"
}
while [ "$passes" -gt 0 ]; do
  hits=$(fast)
  case "
$hits
" in *"
$$ scan self
"*) ;; *) hits=$(slow) ;; esac
  printf "%s\n" "$hits"; passes=$((passes - 1))
done
for f in /proc/[0-9]*/fd/8; do
  for l do
    if [ "$f" -ef "$l" ]; then p=${f#/proc/}; echo "${p%%/*} lock $l"; fi
  done
done
echo over'

scan_search() {
  s_passes=$1 s_limit=$2; shift 2
  # Whoever looks must not hold fd 8 while it looks: it would find itself and call that alive.
  s_hits=$(exec 8>&- 2>/dev/null; BABYSIT_SCAN=self; export BABYSIT_SCAN
    limited "$s_limit" sh -c "$s_search" babysit-scan "$s_passes" "$@" 2>/dev/null)
  s_self=${s_hits%%" self"*}
  case $nl$s_hits$nl in *"$nl$s_self scan self$nl"*"${nl}over$nl") ;; *) s_hits='?'; return ;; esac
  case $s_hits in "$s_self self marked$nl"*)
    case $nl$s_hits$nl in *"$nl$s_self mark $s_mark_self$nl"*) ;; *) s_hits='?' ;; esac ;;
  esac
}
scan_of() {
  alive='' alive_lines=''
  [ "$s_hits" != '?' ] || { alive='?'; return; }
  s_want=$nl
  s_want=${s_want}lock\ $1$nl                                                  #:fd8
  s_stages=$p_stages
  while [ -n "$s_stages" ]; do
    s_stage=${s_stages%%" "*} s_stages=${s_stages#*"$nl"}
    stage_plan "$s_stage" || { alive='?'; return; }
    [ "$p_left" != allow ] || ! stamped "$s_stage" || continue
    s_want=${s_want}tag\ $p_tag/$s_stage$nl                                    #:environ
    s_want=${s_want}mark\ $((p_mark * 1024))$nl                                #:mark
  done
  s_rest=$s_hits$nl
  while [ -n "$s_rest" ]; do
    s_line=${s_rest%%"$nl"*} s_rest=${s_rest#*"$nl"}
    s_pid=${s_line%%" "*} s_line=${s_line#*" "}
    case $s_want in *"$nl$s_line$nl"*) ;; *) continue ;; esac
    case " $$ $alive " in *" $s_pid "*) continue ;; esac
    gone "$s_pid" && continue
    s_comm=''; { IFS= read -r s_comm <"/proc/$s_pid/comm"; } 2>/dev/null
    alive=${alive:+$alive }$s_pid alive_lines="$alive_lines$s_pid ${s_line%%" "*} $s_comm$nl"
  done
}
scan() { scan_search 2 20 "$1"; scan_of "$1"; }

gone() {                          # no such process, or dead and not yet reaped, and no thread of it lives
  s_state=''                      # a process can put anything into its name, a line's end too
  { while IFS= read -r s_part; do s_state=$s_state$s_part; done <"/proc/$1/stat"; } 2>/dev/null
  case ${s_state##*) } in '' | [ZX]*) set -- "/proc/$1"/task/*; [ $# -le 1 ] ;; *) false ;; esac
}
can_limit() {                     # once in a shell, and for all of its subshells
  if [ -z "$s_timeout" ]; then s_timeout=no; ! timeout 1 true 2>/dev/null || s_timeout=yes; fi
  [ "$s_timeout" = yes ]
}
limited() {                       # limited SECONDS COMMAND...: KILL ends it, with its group where timeout can
  if can_limit; then timeout -s KILL "$@"; return; fi
  s_limit=$1; shift
  "$@" & s_child=$!
  (while [ "$s_limit" -gt 0 ] && kill -0 "$s_child"; do sleep 1; s_limit=$((s_limit - 1)); done
    kill -KILL "$s_child") >/dev/null 2>&1 </dev/null &
  wait "$s_child" 2>/dev/null
}
