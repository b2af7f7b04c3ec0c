#!/bin/sh
# One run's chain, generated: every start of the run goes through this file, whoever asks.
#   sh chain-HASH.sh EXPECT      EXPECT = what the records said: 0 | N | N:failed | N:stopped
# First line printed: started, already-so, alive, unknown, budget, unwritable, busy or usage, with its text; then all
# output goes to run.log. Exit: 0 done or already so, 20 failed or stopped, 10 alive, 12 unknown, 5 budget,
# 74 unwritable, 75 busy, 2 usage. A stage that this run has stamped is skipped, so a resume is the same call again.
# The commands are in stages/, what else was fixed when the run was armed in plan. `#:name` at the end of a line
# names the guard that the line belongs to.
set -u
run_id=@{run_id}@
stages='
#% for stage in stages
@{stage}@
#% endfor
'

@% include 'box/records.sh' %@
@% include 'box/scan.sh' %@
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
  few='' count=0                                          # a record is read whole, within bounds, or not at all
  for one in $alive; do
    count=$((count + 1))
    [ "$count" -le 200 ] || break
    few=${few:+$few }$one
  done
  set -- "state=$1" "attempt=$n" "stage=$2" "rc=$3" "signal=$4" "how=$death" "why=$5" "leftovers=${few:--}" \
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
  name=$1
  set -- sh "$R/stages/$name.sh"
  if [ "$p_strict" = 1 ] && command -v bash >/dev/null 2>&1; then set -- bash -eo pipefail "$R/stages/$name.sh"; fi
  acts=''
  [ "$supervised" = 0 ] || acts=supervise
  ! watching "$name" || acts="watched $acts"
  signal=- death=shell
  for act in $acts; do
    case $act in watched) more="$R/usage" ;; *) more='' ;; esac
    rm -f "$R/.result"
    marked "$name" "$p_python" -I "$p_onbox" "$act" "$R/.result" ${more:+"$more" "$name" "$n"} -- "$@"
    told && return
    [ "$rc" = 125 ] && [ ! -e "$R/.result" ] && room || return    # without room it may only have failed to say so
    say "the stage supervisor could not start: $name runs without it ($act)"
  done
  marked "$name" "$@"
}
watching() {                                              # watching STAGE: shall it be, and can it? Tried on `true`
  case " $p_monitor " in *" $1 "*) ;; *) return 1 ;; esac
  why="$p_onbox cannot watch here"
  if [ "$supervised" = 0 ]; then why='no stage supervisor'
  elif ! watch_folder; then why="no folder of its own at $R/usage"
  else
    rm -f "$R/.result"
    limited 30 "$p_python" -I "$p_onbox" watched "$R/.result" "$R/usage/.try" "$1" "$n" -- true 8>&-
    rc=$?
    rm -rf "$R/usage/.try"
    told && [ "$rc" = 0 ] && return
  fi
  say "$1 is not watched: $why"
  return 1
}
watch_folder() {                                          # R/usage is ours alone, and takes something new
  [ ! -L "$R/usage" ] && { [ -d "$R/usage" ] || (umask 077; mkdir "$R/usage"); } && chmod 700 "$R/usage" &&
    rm -rf "$R/usage/.try" && (umask 077; mkdir "$R/usage/.try")
} 2>/dev/null
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
    { rm -f "$R/.reserve" "$R/.new.attempt"; leave 74 unwritable "$R/attempt"; }   # room to say so
  echo "started: attempt $n"
  exec </dev/null >>"$R/run.log" 2>&1                     # from here no caller's pipe can end us
  say "attempt $n of run $run_id, expected $expect"
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  if [ "$p_onbox" != - ]; then PYTHONPATH=$p_onbox${PYTHONPATH:+:$PYTHONPATH}; export PYTHONPATH; fi
  if [ -n "$p_loops" ]; then                              # where the stages' loops are to be found
    case $p_loops in '~/'*) p_loops=${HOME:-}/${p_loops#??} ;; esac
    LOOPCTL_DIR=$p_loops; export LOOPCTL_DIR
  fi
  supervision
}
run() {
  begin
  alive='' death=-
#% for stage in stages
  stage @{stage}@ &&
#% endfor
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
