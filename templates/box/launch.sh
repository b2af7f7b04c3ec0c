# Starting a run's chain, detached, and saying what its first line was. After frame.sh and records.sh.
# Request: frame TOKEN, state DIR|-, run RUN_ID, expect EXPECT, detach tmux|setsid, grace SECONDS, end.
# Answer: sections answer (the chain's first line), detach (tmux, setsid, python, nohup) and first_line (of the job's
# own output, when one came soon). Whatever way of starting is tried, and however often: the chain's locks and its
# fence let one start through.
token='' state=- run='' expect='' detach=setsid grace=15 line=''
while IFS= read -r line; do
  [ "$line" != end ] || break
  case $line in
    'frame '*) token=${line#* } ;; 'state '*) state=${line#* } ;; 'run '*) run=${line#* } ;;
    'expect '*) expect=${line#* } ;; 'detach '*) detach=${line#* } ;; 'grace '*) grace=${line#* } ;;
  esac
done
exec </dev/null
[ "$line" = end ] || { echo 'the request was cut' >&2; exit 65; }
refuse() { body=''; section error - "$1" "$2"; answer "$token"; exit 0; }
number "$grace" || refuse 12 "grace is no number of seconds: $grace"
case $run in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) refuse 12 'that is no run id' ;; esac
[ "$state" != - ] || state='~/.local/state/babysit'
home_path "$state"; state=$path
R=$state/runs/$run
[ -d "$R" ] || refuse 3 "no run $run in $state"
read_plan "$R" || refuse 12 "the plan of $run cannot be read"
case $p_chain in '' | *[!A-Za-z0-9._-]*) refuse 12 "the plan of $run names no chain" ;; esac

# The first line goes through a plain file: a pipe could end the chain, and a full disk must not swallow what it says.
said=''
for folder in "$R" /dev/shm /tmp "${TMPDIR:-/tmp}"; do
  said=$folder/.babysit-first.$token
  rm -f "$said.try" 2>/dev/null
  (umask 077; set -C; echo try >"$said.try") 2>/dev/null && [ "$(cat "$said.try" 2>/dev/null)" = try ] && break
  rm -f "$said.try" 2>/dev/null
  said=''
done
[ -n "$said" ] || refuse 12 'nowhere on the box can a line be written'
rm -f "$said.try"
trap 'rm -f "$said.1" "$said.2" "$said.env"' EXIT
trap 'exit 129' HUP; trap 'exit 143' TERM
for try in 1 2; do (umask 077; set -C; : >"$said.$try") || refuse 12 "$said.$try is in the way"; done
log_was=$(wc -c 2>/dev/null <"$R/run.log") || log_was=0
log_was=$((log_was))

as_it_was() { if [ -n "$lc_was" ]; then LC_ALL=$lc_was; else unset LC_ALL; fi; }
# A tmux server keeps the environment of whoever started it; the job gets ours, by a file, since arguments are public.
# The pane's own shell stays, so that the window shows the run as long as it lives. The chain leaves the terminal: who
# closes the window, or ends tmux, ends no job.
in_tmux='. "$1"; rm -f "$1"; BABYSIT_HOW=tmux; export BABYSIT_HOW
echo "babysit: this is $2; its output is in ${2%/*}/run.log"
if command -v setsid >/dev/null 2>&1; then leave=setsid; else leave=; trap "" HUP; fi
$leave sh "$2" "$3" </dev/null >"$4" 2>&1
exit "$?"'
by_tmux() {
  command -v tmux >/dev/null 2>&1 || return 1
  (umask 077; set -C; as_it_was; export -p >"$said.env") 2>/dev/null || return 1
  tmux -L babysit -f /dev/null new-session -d -s "babysit-$run" \
    sh -c "$in_tmux" babysit "$said.env" "$R/$p_chain" "$expect" "$said.1" </dev/null >/dev/null 2>&1 && how=tmux
}
begin='exec sh "$0" "$1" </dev/null >"$2" 2>&1'
by_setsid() {                     # by_setsid FILE: what is there to leave the session with, best first
  set -- "$R/$p_chain" "$expect" "$1"
  if command -v setsid >/dev/null 2>&1; then
    how=setsid
    # With -f nothing is started by `&`, which would make the job deaf to SIGINT.
    if setsid -f true 2>/dev/null; then (away; setsid -f sh -c "$begin" "$@"); else (away; setsid sh -c "$begin" "$@" &); fi
    return
  fi
  for tool in "$p_python" python3; do
    command -v "$tool" >/dev/null 2>&1 || continue
    how=python
    (away; "$tool" -c 'import os, sys
if os.fork():
    os._exit(0)
os.setsid()
os.execvp("sh", ["sh", "-c"] + sys.argv[1:])' "$begin" "$@") && return
  done
  how=nohup
  (away; trap '' HUP; sh -c "$begin" "$@" &)
}
away() { as_it_was; BABYSIT_HOW=$how; export BABYSIT_HOW; exec </dev/null >/dev/null 2>&1; }
first() {                         # sets first: the chain's first line, whole; empty as long as there is none
  first=''
  for try in 1 2; do
    [ "$(wc -l <"$said.$try" 2>/dev/null)" -gt 0 ] 2>/dev/null && { IFS= read -r first <"$said.$try"; return; }
  done
}
await() {                         # await TIME: until there is a first line, or it is that late
  while first; [ -z "$first" ] && [ "$(date +%s)" -lt "$1" ]; do sleep 0.05 2>/dev/null || sleep 1; done
}

how='' first='' late=$(($(date +%s) + grace))
if [ "$detach" = tmux ] && by_tmux; then
  soon=$(($(date +%s) + 5))                    # from now: a server's own start takes nothing from the pane's time
  await $((soon < late ? soon : late))
  [ -n "$first" ] || by_setsid "$said.2"       # tmux says 0 for a pane that never came up
else
  by_setsid "$said.2"
fi
[ -n "$first" ] || await "$late"
case $first in
  'started: attempt '*)
    job='' tries=25
    while [ "$tries" -gt 0 ]; do
      job=$(tail -c "+$((log_was + 1))" "$R/run.log" 2>/dev/null | dd bs=4096 count=1 2>/dev/null | tr -d '\000' |
        sed -n '/^== /!{/./{p;q;};}' | cut -c 1-400)
      [ -z "$job" ] || break
      load "$R/end" && [ "attempt $r_attempt" = "${first#started: }" ] && break
      tries=$((tries - 1)); nap
    done
    [ -z "$job" ] || section first_line "$run" 0 "$job" ;;
  '') first="unknown: the chain said nothing within $grace s" ;;
esac
section answer "$run" 0 "$first"
section detach "$run" 0 "$how"
answer "$token"
