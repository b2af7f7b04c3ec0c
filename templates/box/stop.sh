# Ending one attempt of a run, and all that is left of it. After frame.sh, records.sh, scan.sh and checkpoint.sh.
# Request: frame TOKEN, state DIR|-, run RUN_ID, attempt N, grace SECONDS, then, where something shall be saved first,
# checkpoint command|SIGNAL, limit SECONDS, require 0|1 and a line `artifact GLOB` each; end.
# Answer: section answer, one line: `stopped: PIDS ended`, `already-so: SEEN`, `alive: PIDS survived`, `unknown: WHY` or
# `kept: WHY` (it was required and failed: no TERM was sent); section ended, lines `PID COMM SIGNAL`; section checkpoint,
# `WORD HUNDREDTHS WHY`, where one was tried. What is signalled is what a fresh look has just proven to be the run's.
token='' state=- run='' asked='' grace=20 hook='' hook_limit=60 required=0 globs='' line=''
while IFS= read -r line; do
  [ "$line" != end ] || break
  case $line in
    'frame '*) token=${line#* } ;; 'state '*) state=${line#* } ;; 'run '*) run=${line#* } ;;
    'attempt '*) asked=${line#* } ;; 'grace '*) grace=${line#* } ;;
    'checkpoint '*) hook=${line#* } ;; 'limit '*) hook_limit=${line#* } ;; 'require '*) required=${line#* } ;;
    'artifact '*) globs=$globs${line#* }$nl ;;
  esac
done
exec </dev/null
[ "$line" = end ] || { echo 'the request was cut' >&2; exit 65; }
ended='' pids=''
refuse() { body=''; section error - "$1" "$2"; answer "$token"; exit 0; }
done_with() {
  section answer "$run" 0 "$1: $2"; section ended "$run" 0 "$ended"
  [ -z "$saved" ] || section checkpoint "$run" 0 "$saved"
  answer "$token"; exit 0
}
saved=''
number "$grace" && number "$asked" && number "$hook_limit" || refuse 12 'attempt, grace and limit are numbers'
case $run in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) refuse 12 'that is no run id' ;; esac
[ "$state" != - ] || state='~/.local/state/babysit'
home_path "$state"; state=$path
R=$state/runs/$run
[ -d "$R" ] || refuse 3 "no run $run in $state"
read_plan "$R" || refuse 12 "the plan of $run cannot be read"
ulimit -S -m unlimited 2>/dev/null

records() {                       # attempt, chain (pid born boot) and seen, as the records say now
  load "$R/attempt"
  case $? in 0) attempt=$r_attempt ;; 1) attempt=0 ;; *) done_with unknown 'the attempt record is not to be believed' ;; esac
  chain=${r_pid:--} chain_born=${r_born:--} chain_boot=${r_boot:--} seen=$attempt began=${r_started_at:--}
  load "$R/end"
  case $? in
    0) [ "$r_attempt" != "$attempt" ] || seen=$attempt:$r_state ;;
    2) done_with unknown 'the end record is not to be believed' ;;
  esac
}
chain_lives() { lives "$chain" "$chain_born" "$chain_boot"; }
look() {                          # left = what is alive besides the chain itself and the date or sync it is running
  scan "$p_lockdir/stage.lock"
  [ "$alive" != '?' ] || done_with unknown '/proc on the box cannot be searched'
  left='' lines=$alive_lines
  while [ -n "$lines" ]; do
    pid=${lines%% *} line=${lines%%"$nl"*} lines=${lines#*"$nl"}
    case $line in *" lock "*) own=$(parent "$pid") ;; *) own='' ;; esac
    if [ "$pid" = "$chain" ] || [ "$own" = "$chain" ]; then chain_lives && continue; fi
    left="${left:+$left }$pid"
  done
}
parent() { stat=$(cat "/proc/$1/stat" 2>/dev/null); set -- ${stat##*) }; echo "${2-}"; }
comm_of() { comm=''; { IFS= read -r comm <"/proc/$1/comm"; } 2>/dev/null; }
signal() {                        # signal SIG PID...: each process gets each signal once
  sig=$1; shift
  for pid; do
    born "$pid"
    [ -n "$b" ] || continue
    case $told in *" $pid/$b/$sig "*) continue ;; esac
    told="$told $pid/$b/$sig "
    # The stage supervisor hands a TERM on: its command would be told twice, and may take the second for haste.
    case $sig$(tr '\000' ' ' 2>/dev/null <"/proc/$pid/cmdline") in TERM*" supervise "*"/$run/.result -- "* | TERM*" watched "*"/$run/.result "*) continue ;; esac
    comm_of "$pid"
    kill -"$sig" "$pid" 2>/dev/null || continue
    ended="$ended$pid $comm $sig$nl"
    case " $pids " in *" $pid "*) ;; *) pids="${pids:+$pids }$pid" ;; esac
  done
}
told=''
until_s=0
within() { until_s=$(($(date +%s) + $1)); }
time_left() { [ "$(date +%s)" -lt "$until_s" ]; }

records
[ "$attempt" = "$asked" ] && [ "$attempt" != 0 ] || done_with already-so "$seen"
look
if [ "$seen" != "$attempt" ] && [ -z "$left" ] && ! chain_lives; then done_with already-so "$seen"; fi
if [ "$seen" = "$attempt" ]; then
  put "$R/stopping" "attempt=$attempt" "at=$(date +%s)" || done_with unknown 'the wish to stop cannot be written: is the disk full?'
fi

if [ -n "$hook" ] && [ -n "$left" ] && [ "$seen" = "$attempt" ]; then
  save "$hook" "$hook_limit"
  case $required:$saved in
    1:saved\ *) ;;
    1:*)
      records                     # a stage that ended over it has its record: then there is nothing to keep
      [ "$seen" != "$attempt" ] || { rm -f "$R/stopping"; to_disk "$R"; done_with kept "${saved#* * }"; } ;;
  esac
  look
fi

within "$grace"                   # TERM, and time to save what is to be saved
while [ -n "$left" ]; do
  signal TERM $left
  time_left || break
  nap; look
done
within 5
while [ -n "$left" ] && time_left; do signal KILL $left; nap; look; done
within 12                         # its stage is gone: the chain writes its end record by itself, on a slow disk too
while chain_lives && time_left; do nap; look; signal KILL $left; done
for sig in TERM KILL; do
  within 3
  while chain_lives && time_left; do signal "$sig" "$chain"; nap; done
done

# Both locks, as every start takes them, and only then the records again: nobody can move them now.
(umask 077; : >>"$p_lockdir/chain.lock" && : >>"$p_lockdir/stage.lock") 2>/dev/null ||
  done_with unknown "the locks in $p_lockdir cannot be opened"
exec 9>>"$p_lockdir/chain.lock" 8>>"$p_lockdir/stage.lock"
take 9 x 5 || done_with unknown 'the chain lock is held by somebody else'
if ! take 8 x 3; then
  look
  [ -z "$left" ] || done_with alive "$left survived"
  done_with unknown 'the stage lock is held by somebody else'
fi
records
[ "$attempt" = "$asked" ] || done_with already-so "$seen"
look
[ -z "$left" ] || done_with alive "$left survived"
if [ "$seen" = "$attempt" ]; then
  stage=-
  rest=$p_stages
  while [ -n "$rest" ]; do
    name=${rest%%" "*} rest=${rest#*"$nl"}
    stamped "$name" || { stage=$name; break; }
  done
  rm -f "$R/.reserve"
  put "$R/end" state=stopped "attempt=$attempt" "stage=$stage" rc=- signal=- how=- why=stopped leftovers=- \
    "started_at=$began" "ended_at=$(date +%s)" || done_with unknown 'the end record cannot be written: is the disk full?'
elif [ -z "$pids" ] && [ "$seen" != "$attempt:stopped" ]; then
  done_with already-so "$seen"    # it ended by itself meanwhile
fi
done_with stopped "${pids:-nothing} ended"
