# Saving before a stop: the run's own command, or a signal to those of its processes that listen to it. After records.sh
# and scan.sh; for stop.sh, which has R, run, left, globs and the plan (p_*). Functions only.
#   save command|SIGNAL LIMIT    sets saved = `WORD HUNDREDTHS WHY`: saved, failed, or late (its time ran out)
hundredths() { read -r c_up _ </proc/uptime; echo "${c_up%.*}${c_up#*.}"; }
save() {
  c_began=$(hundredths) c_until=$(($(date +%s) + $2)) saved='failed 0 nothing'
  case $1 in command) by_command "$2" ;; *) by_signal "$1" "$2" ;; esac
}
work_folder() {                   # c_folder = where the stages work
  c_folder=${HOME:-/}
  case ${p_cwd:--} in - | '~') ;; '~/'*) c_folder=$c_folder/${p_cwd#'~/'} ;; /*) c_folder=$p_cwd ;; *) c_folder=$c_folder/$p_cwd ;; esac
}
outcome() { saved="$1 $(($(hundredths) - c_began)) $2"; }

by_command() {                    # $R/checkpoint.sh, in the run's folder of work; what it prints goes to the run's log
  c_file=$R/checkpoint.sh
  plain_file "$c_file" && [ -r "$c_file" ] || { outcome failed 'its command is not on the box'; return; }
  plain_file "$R/run.log" && (umask 077; : >>"$R/run.log") 2>/dev/null || { outcome failed 'the log cannot be written'; return; }
  work_folder
  set -- "$1" sh "$c_file"
  ! command -v bash >/dev/null 2>&1 || set -- "$1" bash -eo pipefail "$c_file"
  the_job
  (
    cd -- "$c_folder" 2>/dev/null || exit 125
    exec >>"$R/run.log" 2>&1
    echo "== checkpoint, asked for by stop, at $(date +%s)"
    if [ -n "$lc_was" ]; then LC_ALL=$lc_was; else unset LC_ALL; fi
    BABYSIT_RUN=$p_run BABYSIT_RUN_ID=$run BABYSIT_PID=$job BABYSIT_PIDS=$left
    export BABYSIT_RUN BABYSIT_RUN_ID BABYSIT_PID BABYSIT_PIDS
    limited "$@"
  )
  c_rc=$?
  case $c_rc in
    0) outcome saved '' ;;
    125) outcome failed 'its working folder cannot be entered' ;;
    137) if [ "$(date +%s)" -ge "$c_until" ]; then outcome late "it took longer than $1 s"; else outcome failed 'with 137'; fi ;;
    *) outcome failed "with $c_rc" ;;
  esac
}
the_job() {                       # job = the stage's own process: below the shell that runs its file where there is one
  job='' c_shell=none
  for c_pid in $left; do
    case $(tr '\000' ' ' 2>/dev/null <"/proc/$c_pid/cmdline") in *" supervise "* | *" watched "*) ;; *"/runs/$run/stages/"*) c_shell=$c_pid ;; esac
    [ "$c_shell" = none ] || break
  done
  for c_pid in $left; do          # of a pipe the one who writes into it: the numbers of pids say nothing
    [ "$(parent "$c_pid")" = "$c_shell" ] || continue
    [ -n "$job" ] || job=$c_pid
    [ -p "/proc/$c_pid/fd/0" ] || { job=$c_pid; break; }
  done
  [ -n "$job" ] || job=$c_shell
  [ "$job" != none ] || job=${left%% *}
}

# Signal numbers as Linux has them on x86 and ARM. Source: signal(7).
by_signal() {
  case $1 in HUP) c_bit=0 ;; INT) c_bit=1 ;; USR1) c_bit=9 ;; USR2) c_bit=11 ;; *) outcome failed 'no such signal'; return ;; esac
  c_was=$(marks) c_sent=''
  [ -n "$c_was" ] || c_was=$(marks)            # what a disk was slow to tell it knows by now
  for c_pid in $left; do          # one that does not listen would only die of it: the shell around a trainer, say
    case $(tr '\000' ' ' 2>/dev/null <"/proc/$c_pid/cmdline") in *" supervise "*"/$run/.result -- "* | *" watched "*"/$run/.result "*) continue ;; esac
    c_mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$c_pid/status" 2>/dev/null)
    c_mask=${c_mask#"${c_mask%????????}"}
    case $c_mask in '' | *[!0-9a-fA-F]*) continue ;; esac
    [ $((0x$c_mask >> c_bit & 1)) = 1 ] && kill -"$1" "$c_pid" 2>/dev/null && c_sent="$c_sent $c_pid"
  done
  [ -n "$c_sent" ] || { outcome failed "nothing of it listens to $1"; return; }
  c_new='' c_still=0
  while :; do                     # no checkpoint is yet: a file that grows, or stands still under who still writes it
    c_now=$(marks)
    if [ -z "$c_was" ] || [ -z "$c_now" ] || [ "$c_now" = "$c_was" ]; then c_still=0
    elif [ "$c_now" = "$c_new" ]; then c_still=$((c_still + 1))
    else c_new=$c_now c_still=0; fi
    # Two seconds the same, and nobody writes; but some keep a file open for good, and thirty seconds are no pause.
    if [ "$c_still" -ge 30 ] || { [ "$c_still" -ge 2 ] && ! written; }; then outcome saved ''; return; fi
    c_alive=''
    for c_pid in $c_sent; do gone "$c_pid" || c_alive=yes; done
    if [ -z "$c_alive" ]; then
      c_now=$(marks)
      if [ -n "$c_was" ] && [ -n "$c_now" ] && [ "$c_now" != "$c_was" ]; then outcome saved ''; else outcome failed 'it ended, and no artifact is new'; fi
      return
    fi
    [ "$(date +%s)" -lt "$c_until" ] || break
    sleep 1
  done
  if [ -z "$c_was" ] || [ -z "$c_now" ]; then outcome late 'the artifacts could not be looked at in time'
  elif [ -n "$c_new" ]; then outcome late "an artifact was still changing after $2 s"; else outcome late "no artifact was new after $2 s"; fi
}
# A glob is data: with an empty IFS it is one word whatever it holds, and the only thing done to it is to match it.
# A hundred files a stat: a folder of samples may have thousands.
c_files='files() {
  format=$1 IFS=; shift; set +f
  for glob do
    set --
    for file in $glob; do
      [ ! -e "$file" ] || set -- "$@" "$file"
      [ $# -lt 100 ] || { stat -L -c "$format" -- "$@"; set --; }
    done
    [ $# = 0 ] || stat -L -c "$format" -- "$@"
  done
}
'
c_list=$c_files'cd "$1" || exit 1; shift 2; files "%i %s %y %n" "$@" | cksum'
c_open=$c_files'cd "$1" || exit 1
fds=$(for pid in $2; do stat -c "%A %n" "/proc/$pid/fd/"*; done | sed -n "s/^l.w[^ ]* //p")
[ -n "$fds" ] || exit 1
ids=" $(stat -L -c %d:%i $fds | tr "\n" " ")"; shift 2
files %d:%i "$@" | {
  while read -r id; do case $ids in *" $id "*) exit 0 ;; esac; done; exit 1; }'
marks() { artifacts "$c_list" ''; }            # what they look like, in a word; empty when they could not be looked at
written() { artifacts "$c_open" "$left"; [ $? != 1 ]; }     # whether a process of the run may have one open for writing
artifacts() {                     # SCRIPT WORD: the script, for a moment at the most, with where the stages work, WORD, and each glob
  work_folder
  c_script=$1; set -- "$c_folder" "$2"; c_rest=$globs
  while [ -n "$c_rest" ]; do
    c_glob=${c_rest%%"$nl"*} c_rest=${c_rest#*"$nl"}
    case $c_glob in '~/'*) c_glob=${HOME:-}/${c_glob#??} ;; esac
    set -- "$@" "$c_glob"
  done
  limited 5 sh -c "$c_script" sh "$@" 2>/dev/null
}
