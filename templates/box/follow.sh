# Following a run's log: waits on the box until there is more of it or the run is over, then answers with what came
# after an offset. Writes nothing. After frame.sh, ground.sh, records.sh and wait.sh.
# Request: state DIR|-, id RUN_ID, log DEVICE:INODE|-, from OFFSET|- (its end), max BYTES, most BYTES, hold SECONDS.
# Answer: sections `chain` (lives or over), `head` (DEVICE:INODE SIZE FROM TO, status 2: no log yet) and `log`, the bytes
# from FROM to TO. A log with another id, or shorter than the offset, is sent from its beginning; of one that ran more
# than `most` bytes ahead only the end is sent.
plain "$in_id" || refuse 12 'not a run id'
for value in "${in_max:-}" "${in_most:-}" "${in_hold:-}"; do number "$value" || refuse 12 'not a number'; done
case ${in_from:=-} in -) ;; *) number "$in_from" || refuse 12 'not an offset' ;; esac
run=$state/runs/$in_id file=$state/runs/$in_id/run.log
[ -d "$run" ] && [ ! -L "$run" ] || refuse 3 "no run $in_id on the box" "$run"
read_plan "$run" || refuse 12 'the plan cannot be read'
w_dir=$run
over() {                          # a run before its first attempt is not over: it has not begun
  [ -e "$run/attempt" ] || return 1
  [ ! -e "$p_lockdir/chain.lock" ] || ! w_held
}
stat_log() {                      # sets now (DEVICE:INODE SIZE) and size; now is empty as long as there is no log
  plain_file "$file" || refuse 12 'the log is no plain file' "$file"
  now=$(stat -c '%d:%i %s' "$file" 2>/dev/null) || now=''
  size=${now#* }
}
until_s=$(($(date +%s) + in_hold))
while :; do
  if over; then chain=over; else chain=lives; fi       # asked first: a chain that is over prints no more
  stat_log
  [ "$chain" = lives ] && [ "$(date +%s)" -lt "$until_s" ] || break
  [ -z "$now" ] || [ "$now" = "${in_log:-} $in_from" ] || break
  wait_for_end "$run" 1
done
section chain - 0 "$chain"
if [ -z "$now" ]; then section head - 2 ''; finish; fi
from=0
if [ "$in_from" = - ]; then from=$((size - in_max))
elif [ "${now%% *}" = "${in_log:-}" ] && [ "$in_from" -le "$size" ]; then from=$in_from; fi
[ $((size - from)) -le "$in_most" ] || from=$((size - in_max))
[ "$from" -ge 0 ] || from=0
left=$((size - from))
[ "$left" -le "$in_max" ] || left=$in_max
content=$(dd if="$file" bs=4096 skip=$((from / 4096)) count=$((left / 4096 + 2)) 2>/dev/null |
  tail -c +$((from % 4096 + 1)) | head -c "$left" | tr -d '\000'; echo x)
section head - 0 "$now $from $((from + left))"
section log - 0 "${content%x}"
finish
