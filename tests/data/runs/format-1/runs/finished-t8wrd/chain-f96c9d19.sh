#!/bin/sh
# One run's chain, generated: every start of the run goes through this file, whoever asks.
#   sh chain-HASH.sh EXPECT      EXPECT = what the records said: 0 | N | N:failed | N:stopped
# First line printed: started, already-so, alive, unknown, budget, unwritable, busy or usage, with its text; then all
# output goes to run.log. Exit: 0 done or already so, 20 failed or stopped, 10 alive, 12 unknown, 5 budget,
# 74 unwritable, 75 busy, 2 usage. A stage that this run has stamped is skipped, so a resume is the same call again.
# The commands are in stages/, what else was fixed when the run was armed in plan. `#:name` at the end of a line
# names the guard that the line belongs to.
set -u
run_id=finished-t8wrd
stages='
01-train
'

# Records of a run (docs/box.md): plain files of `key=value` lines, believed only with the run's nonce.
# Functions only, for chain, launch, stop, wait and probe. Their own variables begin with r_.
#   read_plan DIR      DIR/plan and DIR/nonce into p_* and nonce: 0 read, 1 there is no plan, 2 not to be believed
#   stage_plan STAGE   its line of the plan into p_mark, p_left, p_strict: 0 found, 1 not in the plan
#   load FILE          0 a record of this run, its values in r_KEY; 1 there is none; 2 not to be believed
#   put FILE K=V...    0 all of it, nonce first, is on disk under this name and reads back
#   stamped STAGE      0 this run's marker of STAGE is there (needs p_dir, as read_plan leaves it)
#   born PID           b = the pid's start time, its other half as an identity; empty: no such process, or a dead one
#                      that nobody has reaped, as happens in containers whose first process never does
#   lives PID BORN BOOT  0 exactly this process is there
#   plain_file FILE    0 a plain file, or nothing yet; never a link, folder, pipe or device
#   number TEXT        0 decimal digits and nothing else
#   take FD x|s WAIT_S 0 the lock on our descriptor FD is ours within WAIT_S; 1 somebody else's; 2 no tool for it
#   nap                a tenth of a second, or one where sleep knows no fractions
nl='
'
number() { case $1 in '' | *[!0-9]* | ???????????????????*) return 1 ;; esac; }
plain_file() { if [ -L "$1" ]; then return 1; elif [ -e "$1" ]; then [ -f "$1" ]; fi; }
nap() { sleep 0.1 2>/dev/null || sleep 1; }

read_plan() {
  p_dir=$1 nonce='' p_stages='' r_line=''
  p_format='' p_run='' p_run_id='' p_tag='' p_chain='' p_onbox=- p_python=- p_lockdir='' p_cwd=-
  plain_file "$1/plan" && plain_file "$1/nonce" || return 2
  [ -e "$1/plan" ] || return 1
  while IFS= read -r r_line; do
    case ${r_line%%=*} in
      format) p_format=${r_line#*=} ;; run) p_run=${r_line#*=} ;; run_id) p_run_id=${r_line#*=} ;;
      tag) p_tag=${r_line#*=} ;; chain) p_chain=${r_line#*=} ;; onbox) p_onbox=${r_line#*=} ;;
      python) p_python=${r_line#*=} ;; lockdir) p_lockdir=${r_line#*=} ;; cwd) p_cwd=${r_line#*=} ;;
      stage) p_stages=$p_stages${r_line#*=}$nl ;;
    esac
  done <"$1/plan" || return 2
  { IFS= read -r nonce <"$1/nonce"; } 2>/dev/null || return 2
  case $nonce in *[!0-9a-f]*) return 2 ;; ????????????????????????????????) ;; *) return 2 ;; esac
  [ "$p_format" = 1 ] && [ -n "$p_run_id" ] && [ -n "$p_tag" ] && [ -n "$p_lockdir" ] && [ -n "$p_stages" ] || return 2
  [ "$p_lockdir" != - ] || p_lockdir=$1
}
stage_plan() {
  r_rest=$p_stages
  while [ -n "$r_rest" ]; do
    r_line=${r_rest%%"$nl"*} r_rest=${r_rest#*"$nl"}
    case $r_line in "$1 "*)
      p_strict=${r_line##* } r_line=${r_line% *}
      p_left=${r_line##* } p_mark=${r_line% *} p_mark=${p_mark#* }
      number "$p_mark" && return 0 ;;
    esac
  done
  return 1
}

load() {
  r_nonce='' r_attempt='' r_stage='' r_state='' r_pid='' r_born='' r_boot='' r_started_at=''
  plain_file "$1" || return 2
  [ -e "$1" ] || return 1
  while IFS= read -r r_line; do
    case ${r_line%%=*} in
      nonce) r_nonce=${r_line#*=} ;; attempt) r_attempt=${r_line#*=} ;; stage) r_stage=${r_line#*=} ;;
      state) r_state=${r_line#*=} ;; pid) r_pid=${r_line#*=} ;; born) r_born=${r_line#*=} ;;
      boot) r_boot=${r_line#*=} ;; started_at) r_started_at=${r_line#*=} ;;
    esac
  done <"$1" || return 2
  [ "$r_nonce" = "$nonce" ] || return 2                                        #:nonce
  number "$r_attempt" || return 2
}
stamped() { load "$p_dir/markers/$1" && [ "$r_stage" = "$1" ]; }   # its name too: no copy of another stage's marker

# The temporary has a fixed name and is removed first: no litter, and the late move of a dead chain finds nothing.
# A full disk leaves an empty file that still syncs and moves, so every status counts and the text is read back.
put() {
  r_to=$1 r_tmp=${1%/*}/.new.${1##*/} r_text=nonce=$nonce; shift
  for r_line; do r_text=$r_text$nl$r_line; done
  plain_file "$r_to" || return 1                                               #:plain
  rm -f "$r_tmp" && (umask 077; set -C; printf '%s\n' "$r_text" >"$r_tmp") && to_disk "$r_tmp" &&
    { mv -fT "$r_tmp" "$r_to" 2>/dev/null || { [ ! -d "$r_to" ] && mv -f "$r_tmp" "$r_to"; }; } &&
    to_disk "${r_to%/*}" && [ "$(cat "$r_to")" = "$r_text" ]
}
# Where sync knows no files (`sync /` fails too), everything is synced. Where there is no sync at all, a record is as
# safe as the file system keeps it: a crash of the whole box may lose the newest one, which a resume then does again.
to_disk() {
  sync "$1" 2>/dev/null || ! command -v sync >/dev/null 2>&1 || { ! sync / 2>/dev/null && sync; }
}

born() {
  b=''
  number "$1" && b=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  b=${b##*) }                     # a process can put anything before this into its name
  case $b in '' | [ZX]*) b='' ;; *) set -- $b; b=${20-} ;; esac
}
lives() {                         # lives PID BORN BOOT: is exactly this process there?
  born "$1"
  [ -n "$b" ] && [ "$b" = "$2" ] && [ "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" = "$3" ]
}

take() {
  r_mode=-x; [ "$2" = x ] || r_mode=-s
  if command -v flock >/dev/null 2>&1; then
    r_left=$(($3 * 10))           # asked again and again: not every flock knows how to wait
    until flock "$r_mode" -n "$1" 2>/dev/null; do
      [ "$r_left" -gt 0 ] || return 1
      r_left=$((r_left - 1)); nap
    done
    return 0
  fi
  for r_tool in "${p_python:--}" python3 python; do
    command -v "$r_tool" >/dev/null 2>&1 && "$r_tool" -c 'import fcntl' >/dev/null 2>&1 || continue
    "$r_tool" -c 'import fcntl, sys, time
fd, kind, left = int(sys.argv[1]), fcntl.LOCK_EX if sys.argv[2] == "-x" else fcntl.LOCK_SH, int(sys.argv[3]) * 10
while True:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
        sys.exit(0)
    except OSError:
        if left <= 0:
            sys.exit(1)
        left -= 1
        time.sleep(0.1)' "$1" "$r_mode" "$3" 2>/dev/null
    return
  done
  command -v perl >/dev/null 2>&1 || return 2
  perl -e 'my ($fd, $mode, $left) = ($ARGV[0], $ARGV[1] eq "-x" ? 2 : 1, $ARGV[2] * 10);
open(my $lock, ">>&=", $fd) or exit 2;
until (flock($lock, $mode | 4)) { exit 1 if $left-- <= 0; select(undef, undef, undef, 0.1) }' "$1" "$r_mode" "$3" 2>/dev/null
}

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
  case "@$(echo $hits)" in *[!0-9]"$$ scan self"*) ;; *) hits=$(slow) ;; esac
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
  s_state=$(cat "/proc/$1/stat" 2>/dev/null)
  case ${s_state##*) } in '' | [ZX]*) set -- "/proc/$1"/task/*; [ $# -le 1 ] ;; *) false ;; esac
}
limited() {                       # limited SECONDS COMMAND...: KILL ends it, with its group where timeout can
  if timeout 1 true 2>/dev/null; then timeout -s KILL "$@"; return; fi
  s_limit=$1; shift
  "$@" & s_child=$!
  (while [ "$s_limit" -gt 0 ] && kill -0 "$s_child"; do sleep 1; s_limit=$((s_limit - 1)); done
    kill -KILL "$s_child") >/dev/null 2>&1 </dev/null &
  wait "$s_child" 2>/dev/null
}

# ---- the chain itself

say() { echo "== $*"; }                                   # the chain's own lines in run.log
leave() { echo "$2: $3"; exit "$1"; }                     # leave CODE WORD TEXT: nothing was launched

# Started from inside a run: neither its tag nor its mark may make us look like a part of it.
if [ -n "${BABYSIT_TAG+set}" ]; then unset BABYSIT_TAG; exec sh "$0" "$@"; fi
ulimit -S -m unlimited 2>/dev/null

[ $# = 1 ] || leave 2 usage 'give EXPECT: 0, N, N:failed or N:stopped'
expect=$1
number "${expect%%:*}" || leave 2 usage 'EXPECT is 0, N, N:failed or N:stopped'
case $expect in *:*) case ${expect#*:} in done | failed | stopped) ;; *) leave 2 usage 'EXPECT ends in no such state' ;; esac ;; esac
me=${0##*/} R=.
case $0 in */*) R=${0%/*} ;; esac
R=$(CDPATH='' cd -P -- "${R:-/}" && pwd -P) || leave 12 unknown 'the run folder cannot be entered'

read_plan "$R" || leave 12 unknown 'plan or nonce cannot be read'
[ "$p_run_id" = "$run_id" ] && [ "$p_chain" = "$me" ] || leave 12 unknown "plan is of run $p_run_id and $p_chain"
planned=$nl
rest=$p_stages
while [ -n "$rest" ]; do planned=$planned${rest%%" "*}$nl rest=${rest#*"$nl"}; done
[ "$planned" = "$stages" ] || leave 12 unknown 'plan has other stages than this chain'
for name in $stages; do
  [ -f "$R/stages/$name.sh" ] && [ -r "$R/stages/$name.sh" ] && stage_plan "$name" || leave 12 unknown "stage $name cannot be read"
done
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) && [ -n "$boot" ] || leave 12 unknown 'no boot id in /proc'
how=${BABYSIT_HOW:-direct}
case $how in *[!a-z]*) how=direct ;; esac
unset BABYSIT_HOW

fence() {                                                 # what the records say now, against what the caller saw
  load "$R/attempt"
  case $? in 0) attempt=$r_attempt ;; 1) attempt=0 ;; *) leave 12 unknown 'the attempt record is not to be believed' ;; esac
  seen=$attempt pid=$r_pid pid_born=$r_born pid_boot=$r_boot
  load "$R/end"
  case $? in
    0) ;;
    1) r_attempt=0 r_state='' ;;
    *) leave 12 unknown 'the end record is not to be believed' ;;
  esac
  [ "$r_attempt" -le "$attempt" ] && [ "${expect%%:*}" -le "$attempt" ] || leave 12 unknown "records went back: attempt $attempt"
  [ "$attempt" = 0 ] || [ "$r_attempt" != "$attempt" ] || seen=$attempt:$r_state
  case $seen in
    *:done) leave 0 already-so "$seen" ;;                                      #:fence
    *:failed | *:stopped) ;;
    *:*) leave 12 unknown 'the end record has no state' ;;
  esac
  [ "$seen" = "$expect" ] || leave 0 already-so "$seen"                        #:fence
}
chain_lives() { [ -n "$pid" ] && lives "$pid" "$pid_born" "$pid_boot"; }
look() { scan "/proc/$$/fd/8"; }                          # sets alive; its lock is the very file that we hold
asked_to_stop() { load "$R/stopping" && [ "$r_attempt" = "$n" ]; }

finish() {                                                # finish STATE STAGE RC SIGNAL WHY: the end record, and out
  rm -f "$R/.reserve" "$R/.result"                        # blocks kept free, so that a full disk can still be reported
  [ "$alive" != '?' ] || { say "what is left cannot be told: /proc cannot be searched"; alive=''; }
  [ "$1" != done ] || death=-
  set -- "state=$1" "attempt=$n" "stage=$2" "rc=$3" "signal=$4" "how=$death" "why=$5" "leftovers=${alive:--}" \
    "started_at=$began" "ended_at=$(date +%s)"
  say "attempt $n: $*"
  [ "$1" != state=failed ] || put "$R/failed.$n" "$@" || say "failed.$n could not be written"
  put "$R/end" "$@" || { say 'the end record could not be written'; exit 74; }
  [ "$1" = state=done ] || exit 20
  exit 0
}
room() {                                                  # a MiB and an inode are free here, or nobody can tell
  set -- $(stat -f -c '%a %S %d %c' "$R" 2>/dev/null)
  [ $# = 4 ] || set -- $(df -Pk "$R" 2>/dev/null | sed -n '$s/.* \(-*[0-9]*\)  *[0-9]*% .*/\1 1024 1 0/p')
  [ $# = 4 ] || return 0
  [ $(($1 * $2)) -ge 1048576 ] && { [ "$4" = 0 ] || [ "$3" -gt 0 ]; }
}
enter() {                                                 # where the stages work, from the home folder
  case $p_cwd in
    - | '~') cd -- "${HOME:-/}" ;;
    '~/'*) cd -- "${HOME:-}/${p_cwd#'~/'}" ;;
    /*) cd -- "$p_cwd" ;;
    *) cd -- "${HOME:-}/$p_cwd" ;;
  esac
} 2>/dev/null

# The environment can be lost (env -i, setproctitle) and Python's subprocess closes fd 8. The soft RSS limit has no
# effect on Linux, survives fork, exec and setsid, and anybody can read it in /proc/PID/limits.
marked() {                                                # marked STAGE COMMAND...: run in its tag and mark; sets rc
  tag=$p_tag/$1; shift
  run='exec "$@"'
  [ "$p_left" != allow ] || run='"$@" 8>&-; exit $?'      # what it leaves must not hold fd 8; while it works, this does
  sh -c "ulimit -S -m $p_mark 2>/dev/null || echo '== this box takes no mark'
    BABYSIT_TAG=\$1; export BABYSIT_TAG; shift; $run" sh "$tag" "$@"
  rc=$?
}
told() {                                                  # what the supervisor saw, if it wrote it down
  kind='' value=''
  [ -f "$R/.result" ] && [ ! -L "$R/.result" ] || return 1
  while IFS= read -r line; do case $line in kind=*) kind=${line#*=} ;; value=*) value=${line#*=} ;; esac; done <"$R/.result"
  number "$value" || return 1
  case $kind in exit) rc=$value signal=- ;; signal) rc=$((128 + value)) signal=$value ;; *) return 1 ;; esac
  death=waitid
}
work() {                                                  # work STAGE: run its file; sets rc, signal, death
  signal=- death=shell name=$1
  set -- sh "$R/stages/$name.sh"
  if [ "$p_strict" = 1 ] && command -v bash >/dev/null 2>&1; then set -- bash -eo pipefail "$R/stages/$name.sh"; fi
  if [ "$supervised" = 1 ]; then
    rm -f "$R/.result"
    marked "$name" "$p_python" -I "$p_onbox" supervise "$R/.result" -- "$@"
    told && return
    [ "$rc" = 125 ] && [ ! -e "$R/.result" ] && room || return    # without room it may only have failed to say so
    say "the stage supervisor could not start: $name runs without it"
  fi
  marked "$name" "$@"
}
supervision() {                                           # can it be used at all? Tried once an attempt, on `true`
  supervised=0
  [ "$p_python" != - ] && [ "$p_onbox" != - ] || return
  rm -f "$R/.result"
  "$p_python" -I "$p_onbox" supervise "$R/.result" -- true
  rc=$?
  if told && [ "$rc" = 0 ]; then supervised=1; else say "no stage supervisor: $p_python $p_onbox does not work here"; fi
}
settle() {                                                # settle TENTHS: look until nothing is left, or the time is up
  left=$1
  while look; [ -n "$alive" ] && [ "$left" -gt 0 ]; do left=$((left - 1)); nap; done
}
end_leftovers() {                                         # each time what a fresh look shows, never a remembered pid
  for sig in TERM KILL; do
    case $alive in '' | '?') return ;; esac
    say "$sig to $alive"
    kill -"$sig" $alive 2>/dev/null
    settle 50
  done
}
stage() {
  if stamped "$1"; then say "skip $1: attempt $r_attempt stamped it"; return; fi
  stage_plan "$1"
  name=$1 policy=$p_left alive='' death=- stage_began=$(date +%s)
  ! asked_to_stop || finish stopped "$name" - - stopped
  plain_file "$R/markers/$name" || finish failed "$name" - - marker-target     #:plain
  room || finish failed "$name" - - disk
  enter || finish failed "$name" - - cwd
  say "stage $name, attempt $n, at $stage_began"
  work "$name"
  if asked_to_stop; then                                  # also when it ended by 0: a trainer may do so on TERM
    settle 1000
    finish stopped "$name" "$rc" "$signal" stopped
  fi
  if [ "$policy" = fail ] && [ "$rc" = 0 ]; then settle 20; else look; fi      # what is just ending may end
  [ -z "$alive" ] || say "left over by $name (leftovers=$policy): $alive"
  [ "$policy" != end ] || end_leftovers
  why=exit; [ "$signal" = - ] || why=signal
  [ "$rc" = 0 ] || finish failed "$name" "$rc" "$signal" "$why"
  [ -z "$alive" ] || [ "$policy" = allow ] || finish failed "$name" "$rc" "$signal" leftovers #:leftovers
  put "$R/markers/$name" "stage=$name" "attempt=$n" "started_at=$stage_began" "ended_at=$(date +%s)" ||
    finish failed "$name" "$rc" "$signal" cannot-stamp
}

nothing_lives() {
  look
  [ "$alive" != '?' ] || leave 12 unknown '/proc cannot be searched'
  [ -z "$alive" ] || leave 10 alive "$alive"
}
only_one() {                                              # the chain lock is ours, or this start is over
  take 9 x 1
  case $? in 0) return ;; 2) leave 12 unknown 'this box has no flock, python3 or perl' ;; esac
  fence
  ! chain_lives || leave 10 alive "$pid"
  take 9 x 5 && return                                    # those who look at the lock hold it for a moment
  fence
  leave 75 busy 'chain lock'
}
begin() {                                                 # under both locks: may this start be? Then it is attempt n
  take 8 x 0 || { nothing_lives; take 8 x 5; } || leave 75 busy 'stage lock'   #:fd8
  fence                                                   # read AFTER both locks: now nobody can move them
  ! chain_lives || leave 10 alive "$pid"                                       #:identity
  nothing_lives
  plain_file "$R/budget" && { IFS= read -r budget <"$R/budget"; } 2>/dev/null && number "$budget" ||
    leave 12 unknown 'the budget cannot be read'
  [ "$attempt" -lt "$budget" ] || leave 5 budget "$attempt of $budget"
  n=$((attempt + 1)) began=$(date +%s)
  born $$
  [ -n "$b" ] || leave 12 unknown '/proc does not show this chain'
  [ ! -L "$R/markers" ] && mkdir -p "$R/markers" 2>/dev/null || leave 74 unwritable "$R/markers"
  plain_file "$R/run.log" && (umask 077; : >>"$R/run.log") 2>/dev/null || leave 74 unwritable "$R/run.log"
  rm -f "$R/.reserve" && (umask 077; set -C; dd if=/dev/zero bs=8192 count=1 >"$R/.reserve") 2>/dev/null || leave 74 unwritable "$R"
  put "$R/attempt" "attempt=$n" "pid=$$" "born=$b" "boot=$boot" "started_at=$began" "how=$how" 2>/dev/null ||
    leave 74 unwritable "$R/attempt"
  echo "started: attempt $n"
  exec </dev/null >>"$R/run.log" 2>&1                     # from here no caller's pipe can end us
  say "attempt $n of run $run_id, expected $expect"
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  if [ "$p_onbox" != - ]; then PYTHONPATH=$p_onbox${PYTHONPATH:+:$PYTHONPATH}; export PYTHONPATH; fi
  supervision
}
run() {
  begin
  alive='' death=-
  stage 01-train &&
    finish done - 0 - -
}

[ -d "$p_lockdir" ] || (umask 077; mkdir -p "$p_lockdir") 2>/dev/null || leave 74 unwritable "$p_lockdir"
for lock in chain stage; do
  plain_file "$p_lockdir/$lock.lock" && (umask 077; : >>"$p_lockdir/$lock.lock") 2>/dev/null || leave 74 unwritable "$p_lockdir/$lock.lock"
done
exec 9>>"$p_lockdir/chain.lock"                                                #:fd9
only_one                                                                       #:fd9
exec 8>>"$p_lockdir/stage.lock"                                                #:fd8
# The shell keeps its fd 9 aside, close-on-exec: no child can hold it, by construction and not by care.
run 9>&-
