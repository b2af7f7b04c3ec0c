# Is there a tmux window of a run? Writes nothing. After frame.sh, ground.sh and records.sh.
# Request: state DIR|-, id RUN_ID. Answer: section `how` (what the newest attempt was started with, `-`: never started)
# and section `session`: its name, status 2 when there is no such session, 127 when there is no tmux.
plain "$in_id" || refuse 12 'not a run id'
run=$state/runs/$in_id
[ -d "$run" ] && [ ! -L "$run" ] || refuse 3 "no run $in_id on the box" "$run"
how=-
if plain_file "$run/attempt" && [ -e "$run/attempt" ]; then how=$(sed -n '/^how=/{s///p;q;}' "$run/attempt" 2>/dev/null); fi
case $how in *[!a-z]*) how=- ;; esac
section how - 0 "${how:--}"
session=babysit-$(printf %s "$in_id" | tr . _)     # tmux gives a dot in a name another meaning, and takes it away
if ! command -v tmux >/dev/null 2>&1; then section session - 127 ''
elif tmux -L babysit has-session -t "=$session" </dev/null >/dev/null 2>&1; then section session - 0 "$session"
else section session - 2 ''; fi
finish
