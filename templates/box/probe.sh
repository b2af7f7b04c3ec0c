# One look at a box and at all the runs on it. After frame.sh, records.sh, scan.sh and wait.sh. It judges nothing and
# changes nothing: each section is what was read, raw and bounded, with the status of reading it. The one thing
# written is <run>/visited. Request lines:
#   frame TOKEN | state DIR|- | wait RUN_ID HOLD_S | gpu 1|0 | disk PATH | run RUN_ID LOG_ID|- OFFSET MAX | artifact RUN_ID GLOB | end
# Sections of the box: boot_id, init (the start of its first process, where that is shown), machine_id, box, disk and
# inodes (first line the path that was asked for, `-` for the state folder), memory, gpu, loops (where there is a folder for them), clock. Of a run: exists, locks, plan, attempt,
# budget, end, broken (loops of a failed stage that somebody broke off), stopping, usage (where a stage is watched), markers
# (how many), marker (first line its name), alive, log (first line `DEVICE:INODE SIZE MTIME START`), artifact (one a glob).
# Status: 0 read, 2 not there, 3 not a plain file, 27 no room left in the answer, 124 its time ran out, else the tool's.
m_most=240000                     # bytes of all contents: what a host takes is 256 KiB, heads of sections included
m_record=4096
m_marks=200

is_id() {                         # is_id TEXT: can it be a run id? Never a path, an option or a pattern.
  case $1 in '' | *[!A-Za-z0-9._-]* | [!A-Za-z0-9]*) return 1 ;; esac
  [ "${#1}" -le 80 ]
}
bounded() {                       # bounded SECONDS COMMAND...: status 124 when its time ran out
  limited "$@"; set -- $?
  [ "$1" != 137 ] || return 124
  return "$1"
}
capture() {                       # capture SECONDS COMMAND...: out = what it printed, little by its nature, rc = its status
  { if can_limit; then out=$(exec timeout -s KILL "$@" </dev/null); else out=$(limited "$@" </dev/null); fi
    rc=$?; } 2>/dev/null
  [ "$rc" != 137 ] || rc=124
}
capture_end() {                   # the same, and out = the last 8 KiB of it
  out=$({ bounded "$@" 2>/dev/null </dev/null; printf '\n%s' $?; } | tail -c 8192)
  rc=${out##*"$nl"} out=${out%"$nl"*}; out=${out%"$nl"}
}
tell() {                          # tell NAME RUN|- STATUS CONTENT: a section, as long as there is room
  if [ $((${#body} + ${#4})) -gt "$m_most" ]; then section "$1" "$2" 27 ''; else section "$@"; fi
}
tell_file() {                     # tell_file NAME RUN|- FILE [FIRST_LINE]: a small plain file, whole or not at all
  rc=0 out=''
  if ! plain_file "$3"; then rc=3
  elif [ ! -e "$3" ]; then rc=2
  else capture 3 head -c "$m_record" "$3"; fi
  tell "$1" "$2" "$rc" "${4:+$4$nl}$out"
}

tell_disk() {                     # tell_disk PATH|-: the mount it is on, in KiB and in inodes; its nearest folder if it is not there
  if [ "$1" = - ]; then near=$state; else home_path "$1"; near=$path; fi
  while [ ! -e "$near" ] && [ -n "$near" ]; do near=${near%/*}; done
  capture 5 df -P -k "${near:-/}"; tell disk - "$rc" "$1$nl$out"
  capture 5 df -P -i "${near:-/}"; tell inodes - "$rc" "$1$nl$out"
}
word_of() {                       # word_of FILE [KEY]: its first word, or the one after KEY; `-` when there is none
  word=''
  if [ $# = 1 ]; then { IFS= read -r word <"$1"; } 2>/dev/null
  else while read -r key value _; do [ "$key" != "$2" ] || word=$value; done <"$1"; fi 2>/dev/null
  case $word in '' | *[!a-z0-9]*) word=- ;; esac
}
level() {                         # level KIND FOLDER USED LIMIT EVENTS: one cgroup's three figures as a line
  [ -r "$2/$3" ] || return 0
  word_of "$2/$3"; line="$1 $word"
  word_of "$2/$4"; line="$line $word"
  word=-; [ ! -r "$2/$5" ] || word_of "$2/$5" oom_kill
  out=$out$line\ $word$nl
}
tell_memory() {                   # every cgroup above us, ours first: the tightest counts, and that is judged elsewhere
  out=''
  while IFS=: read -r number kinds group; do
    case $number:$kinds in
      0:) kind=v2 root=/sys/fs/cgroup; [ ! -d "$root/unified" ] || root=$root/unified ;;
      *) case ,$kinds, in *,memory,*) kind=v1 root=/sys/fs/cgroup/memory ;; *) continue ;; esac ;;
    esac
    depth=0 group=${group%/}
    while [ "$depth" -lt 32 ]; do
      if [ "$kind" = v2 ]; then level v2 "$root$group" memory.current memory.max memory.events
      else level v1 "$root$group" memory.usage_in_bytes memory.limit_in_bytes memory.oom_control; fi
      [ -n "$group" ] || break
      group=${group%/*} depth=$((depth + 1))
    done
  done 2>/dev/null </proc/self/cgroup
  word_of /proc/meminfo MemTotal:; all=$word
  word_of /proc/meminfo MemAvailable:
  tell memory - 0 "${out}meminfo $all $word"
}

lock_state() {                    # lock_state FILE: sets held to free, held or unknown; asked with a shared lock, so that
  held=unknown                    # two who look do not see each other, and let go at once
  plain_file "$1" || return 0
  if [ ! -e "$1" ]; then held=free; return 0; fi
  [ -r "$1" ] || return 0
  { take 7 s 0; } 7<"$1"
  case $? in 0) held=free ;; 1) held=held ;; esac
}
each_run() {                      # each_run COMMAND: for every run that was asked for, with run, dir and its plan loaded
  rest=$runs
  while [ -n "$rest" ]; do
    run=${rest%%"$nl"*} rest=${rest#*"$nl"}
    ask=${run#* } run=${run%% *} dir=$state/runs/${run}
    [ -d "$dir" ] && [ ! -L "$dir" ] || continue
    read_plan "$dir" 2>/dev/null; planned=$?
    "$1"
  done
}
see_locks() {                     # before all else: whoever holds them writes its end record first, so that "free, and no
  chain=unknown                   # end record" cannot mean "has just ended"
  if [ "$planned" = 0 ]; then
    lock_state "$p_lockdir/chain.lock"; chain=$held
    lock_state "$p_lockdir/stage.lock"; stage=$held
    stage_locks=$stage_locks$p_lockdir/stage.lock$nl
  fi
  locks="$locks$run $chain ${stage:-unknown}$nl"
}
see_records() {
  steered
  tell exists "$run" 0 yes
  tell_file plan "$run" "$dir/plan"
  for record in attempt end stopping; do
    tell_file "$record" "$run" "$dir/$record"
    case $record:$planned:$nl$out$nl in end:0:*"${nl}state=failed$nl"*"${nl}why=exit$nl"*) tell_broken ;; esac
  done
  word=-; ! plain_file "$dir/budget" || word_of "$dir/budget"
  tell budget "$run" 0 "$word"
  tell_usage
  count=0
  if [ -L "$dir/markers" ] || { [ -e "$dir/markers" ] && [ ! -d "$dir/markers" ]; }; then
    tell markers "$run" 3 ''
    return
  fi
  for file in "$dir"/markers/*; do
    [ -e "$file" ] || [ -L "$file" ] || continue
    count=$((count + 1))
    [ "$count" -gt "$m_marks" ] || tell_file marker "$run" "$file" "${file##*/}"
  done
  tell markers "$run" 0 "$count"
}
tell_usage() {                    # what its newest watched stage used; after the end record, which is written later
  [ -d "$dir/usage" ] && [ ! -L "$dir/usage" ] || return 0
  newest=''
  for file in "$dir"/usage/[0-9][0-9]-*.json; do
    [ -f "$file" ] && [ ! -L "$file" ] && [ ! "$newest" -nt "$file" ] && newest=$file
  done
  if [ -n "$newest" ]; then tell_file usage "$run" "$newest"; else tell usage "$run" 2 ''; fi
}
see_alive() {                     # and once more the locks of a run that has living processes but had no chain
  was=$nl$locks; was=${was#*"$nl$run "}; was=${was%%"$nl"*}
  alive='?' alive_lines=''
  [ "$planned" != 0 ] || scan_of "$p_lockdir/stage.lock"
  case $alive:$was in
    '?:'* | :*) ;;
    *:free\ *)
      lock_state "$p_lockdir/chain.lock"
      [ "$held" = free ] || was='moved unknown' ;;
  esac
  rc=0; [ "$planned" = 0 ] || rc=1
  tell locks "$run" "$rc" "chain=${was% *}${nl}stage=${was#* }"
  rc=0; [ "$alive" != '?' ] || rc=1
  tell alive "$run" "$rc" "$alive_lines"
}
see_log() {                       # new bytes only, the last ones if there are too many; a whole block is skipped by seeking
  id=${ask%% *} ask=${ask#* } most=${ask#* } from=${ask%% *} log=$dir/run.log
  if ! plain_file "$log"; then tell log "$run" 3 ''; return; fi
  if [ ! -e "$log" ]; then tell log "$run" 2 ''; return; fi
  capture 3 stat -c '%d:%i %s %Y' "$log"
  name=${out%% *} size=${out#* } size=${size%% *}
  if [ "$rc" != 0 ] || ! number "$size"; then tell log "$run" "${rc#0}" ''; return; fi
  { [ "$id" = "$name" ] && [ "$from" -le "$size" ]; } || from=0
  [ $((size - from)) -le "$most" ] || from=$((size - most))
  skip=$((from / 4096))
  content=x
  [ "$from" = "$size" ] || { content=$(bounded 5 dd if="$log" bs=4096 skip="$skip" count=$(((size + 4095) / 4096 - skip)) |
    tail -c +$((from - skip * 4096 + 1)) | head -c $((size - from)); printf x); } 2>/dev/null
  tell log "$run" 0 "$out $from$nl${content%x}"
}
# A glob is data: with an empty IFS it is one word whatever it holds, and the only thing done to it is to match it.
m_match='cd "$1" || exit 2
IFS=; set +f; set -- $2
for file do
  case $file in *"
"*) ;; *) if [ -e "$file" ]; then printf "%s\0" "$file"; fi ;; esac
done | xargs -0 stat -L -c "%Y %s %n" -- 2>/dev/null | sort -k1,1nr | head -n 20 | cut -b 1-400
exit 0'
see_artifacts() {
  globs=$artifacts
  while [ -n "$globs" ]; do
    glob=${globs%%"$nl"*} globs=${globs#*"$nl"}
    [ "${glob%% *}" = "$run" ] || continue
    glob=${glob#* } path=$HOME
    case ${p_cwd:--} in -) ;; *) home_path "$p_cwd" ;; esac
    case $glob in '~/'*) glob=$HOME/${glob#??} ;; esac
    capture 5 sh -c "$m_match" sh "$path" "$glob"
    tell artifact "$run" "$rc" "$out"
  done
}
# What of steering is ours alone, as docs/steering.md asks: else nothing in it is believed.
m_ours='cd "$1" && [ -O . ] && set -f || exit 3
for inside in onbox onbox/ended; do
  if [ -L "$inside" ]; then exit 3; elif [ -e "$inside" ]; then [ -d "$inside" ] && [ -O "$inside" ] || exit 3; fi
done
[ -z "$(find . onbox onbox/ended -prune \( -perm -020 -o -perm -002 \) 2>/dev/null)" ] || exit 3
mine() { [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }
'
# Loops of living processes, the newest first, as long as there is room: those with a card, then those that only the
# registry names, as loopmonitor's own. Of each `PID START STATE MTIME AGE CARD_BYTES STATE_BYTES ENTRY_BYTES`, then its
# card, the beginning of its state file, and its lines of the registry where the card is not this very process's. AGE is
# the process's in seconds, by the start time of the shell that looks: /proc/uptime may be a container's, START is the kernel's.
m_loops='left=$2 count=0 seen=" " registry= tries=3
show() {
  case $seen in *" $1 "*) return 0 ;; esac
  seen="$seen$1 " pid=$1 card= state= entry= mtime=0 tries=3
  { IFS= read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 0
  set -- ${stat##*) }
  case $1:${20:-} in [ZX]:* | *:) return 0 ;; esac
  if mine "onbox/$pid.json"; then card=$(head -c 8192 "onbox/$pid.json"; echo x); fi
  card=${card%x}
  case $card in
    *"\"start_ticks\": ${20},"*) ;;
    *) entry=$(printf "%s\n" "$registry" | sed -n "/^  \"$pid\": {\$/,/^  }/p" | head -c 4096) ;;
  esac
  [ -n "$card$entry" ] || return 0
  while [ "$tries" -gt 0 ] && mine "$pid.state.json"; do
    mtime=$(stat -c %Y "$pid.state.json") state=$(head -c 4096 "$pid.state.json"; echo x)
    state=${state%x} tries=$((tries - 1))
    case ${#state}:$state in 4096:* | *\} | *\}?) break ;; esac
  done
  count=$((count + 1)) left=$((left - ${#card} - ${#state} - ${#entry} - 100))
  [ "$left" -ge 0 ] && [ "$count" -le 32 ] || exit 0
  printf "%s\n%s\n%s\n%s\n" "$pid ${20} $1 ${mtime:-0} $(((now - ${20}) / 100)) ${#card} ${#state} ${#entry}" \
    "$card" "$state" "$entry"
}
IFS= read -r stat <"/proc/$$/stat"; set -- ${stat##*) }; now=${20}
while [ "$tries" -gt 0 ] && mine registry.json; do
  registry=$(tail -c 262144 registry.json) tries=$((tries - 1))
  case $registry in *\}) break ;; esac
done
for name in $(ls -t onbox | head -n 400); do
  case $name in *[!0-9]*.json | .json | ??????????*.json) ;; *.json) show "${name%.json}" ;; esac
done
for name in $(printf "%s\n" "$registry" | sed -n "s/^  \"\([0-9]\{1,9\}\)\": {\$/\1/p" | tail -n 400 | sed "1!G;h;\$!d"); do
  show "$name"
done
exit 0'
# The end records of loops that somebody broke off, of the stages of one tag, the newest four; and where there are some,
# the newest four of any end, which tell what began after them. Of each a line with its beginning and one with its end,
# empty of those others: what a loop tracked may stand between them.
m_broken='cd onbox/ended || exit 2
tag=$2
set --
for name in $(ls -t | head -n 96); do
  case $name in -* | *[!0-9a-zA-Z.-]*) ;; *.json) if mine "$name"; then set -- "$@" "$name"; fi ;; esac
done
[ $# -gt 0 ] || exit 0
broken=" $(grep -l -e "\"tag\": \"$tag/.*\"ended\": \"broken\"" "$@" | head -n 4 | tr "\n" " ")"
[ "$broken" != " " ] || exit 0
for name in $broken; do
  head -c 3072 "$name" | tr -d "\n"; echo
  tail -c 1024 "$name" | tr -d "\n"; echo
done
for name in $(grep -l -e "\"tag\": \"$tag/" "$@" | head -n 4); do
  case $broken in *" $name "*) continue ;; esac
  head -c 3072 "$name" | tr -d "\n"; echo; echo
done
exit 0'
steering() {                      # steering SCRIPT ARGUMENT: content = what it printed in the folder of steering, rc = its status
  { content=$(bounded 5 sh -c "$m_ours$1" sh "$folder" "$2" 2>/dev/null; printf '\n%s' $?); } 2>/dev/null
  rc=${content##*"$nl"} content=${content%"$nl"*}
}
steered() {                       # folder = where the loops of the run lie; folders = those of all runs, each once
  folder=${LOOPCTL_DIR:-$HOME/.ipc}
  if [ -n "$p_loops" ]; then home_path "$p_loops"; folder=$path; fi
  case $nl$folders in *"$nl$folder$nl"*) ;; *) folders=$folders$folder$nl ;; esac
}
tell_loops() {                    # a box on which no loop ever ran pays for one look at a folder
  found='' worst=''
  while [ -n "$folders" ]; do
    folder=${folders%%"$nl"*} folders=${folders#*"$nl"}
    [ -d "$folder/onbox" ] || [ -e "$folder/registry.json" ] || continue
    steering "$m_loops" $((m_most - ${#body} - ${#found} - 4096))
    found=$found$content
    case $worst in '' | 0) worst=$rc ;; esac
  done
  [ -z "$worst" ] || tell loops - "$worst" "$found"
}
tell_broken() {
  [ -d "$folder/onbox/ended" ] || return 0
  steering "$m_broken" "$p_tag"
  tell broken "$run" "$rc" "$content"
}
visit() {
  plain_file "$dir/visited" && { printf '%s\n' "$now" >"$dir/visited"; } 2>/dev/null
  :
}

token='' state=- hold='' gpu=0 runs='' folders='' artifacts='' disks='' locks='' stage_locks='' line=''
while IFS= read -r line; do
  value=${line#* }
  case $line in
    end) break ;;
    'frame '*) token=$value ;;
    'state '*) state=$value ;;
    'wait '*) hold=$value ;;
    'gpu '*) gpu=$value ;;
    'disk '*) disks=$disks$value$nl ;;
    'artifact '*) is_id "${value%% *}" && artifacts=$artifacts$value$nl ;;
    'run '*)
      is_id "${value%% *}" || continue
      ask=${value#* }; ask=${ask#* }
      if number "${ask%% *}" && number "${ask#* }"; then runs=$runs$value$nl; fi ;;
  esac
done
case $token in *[!0-9a-f]* | '') line= ;; esac
[ "$line" = end ] || { echo 'the request was cut' >&2; exit 65; }
case ${HOME:-} in /*) ;; *) HOME=$(cd ~ 2>/dev/null && pwd) ;; esac
if [ "$state" = - ]; then state=$HOME/.local/state/babysit; else home_path "$state"; state=$path; fi
if [ -n "$hold" ] && is_id "${hold%% *}" && number "${hold#* }"; then
  wait_for_end "$state/runs/${hold%% *}" "${hold#* }"
fi

can_limit
umask 077
out=''; { IFS= read -r out </proc/sys/kernel/random/boot_id; } 2>/dev/null
rc=0; [ -n "$out" ] || rc=1
tell boot_id - "$rc" "$out"
born 1; [ -z "$b" ] || tell init - 0 "$b"
tell_file machine_id - /etc/machine-id
tell_file box - "$state/box"
tell_disk -
while [ -n "$disks" ]; do tell_disk "${disks%%"$nl"*}"; disks=${disks#*"$nl"}; done
tell_memory
if [ "$gpu" = 1 ]; then
  if command -v nvidia-smi >/dev/null 2>&1; then
    capture_end 5 nvidia-smi --query-gpu=index,name,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits
  else rc=127 out=''; fi
  tell gpu - "$rc" "$out"
fi

each_run see_locks
each_run see_records
set --
while [ -n "$stage_locks" ]; do set -- "$@" "${stage_locks%%"$nl"*}"; stage_locks=${stage_locks#*"$nl"}; done
[ $# = 0 ] || scan_search 1 8 "$@"
each_run see_alive
each_run see_log
each_run see_artifacts
tell_loops
now=$(date +%s)
each_run visit
while [ -n "$runs" ]; do
  run=${runs%% *} runs=${runs#*"$nl"}
  [ -d "$state/runs/$run" ] && [ ! -L "$state/runs/$run" ] || tell exists "$run" 0 no
done
uptime=''; { IFS= read -r uptime </proc/uptime; } 2>/dev/null
tell clock - 0 "$now$nl$uptime"
answer "$token"
