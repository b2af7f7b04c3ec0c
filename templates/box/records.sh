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
  p_dir=$1 nonce='' p_stages='' p_monitor='' p_loops='' r_line=''
  p_format='' p_run='' p_run_id='' p_tag='' p_chain='' p_onbox=- p_python=- p_lockdir='' p_cwd=-
  plain_file "$1/plan" && plain_file "$1/nonce" || return 2
  [ -e "$1/plan" ] || return 1
  while IFS= read -r r_line; do
    case ${r_line%%=*} in
      format) p_format=${r_line#*=} ;; run) p_run=${r_line#*=} ;; run_id) p_run_id=${r_line#*=} ;;
      tag) p_tag=${r_line#*=} ;; chain) p_chain=${r_line#*=} ;; onbox) p_onbox=${r_line#*=} ;;
      python) p_python=${r_line#*=} ;; lockdir) p_lockdir=${r_line#*=} ;; cwd) p_cwd=${r_line#*=} ;;
      stage) p_stages=$p_stages${r_line#*=}$nl ;; monitor) p_monitor=${r_line#*=} ;;
      loops) p_loops=${r_line#*=} ;;
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
