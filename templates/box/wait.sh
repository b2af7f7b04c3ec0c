# Waiting on the box for the end of a run's chain. After records.sh. Functions only; their own variables begin with w_.
#   wait_for_end RUNDIR HOLD   HOLD seconds at most (55 at most, whatever is asked)
#       0 the chain's lock is free: it ended, or nothing was running; then look, and do not wait again
#       1 it is still held; 2 the plan cannot be read
# Only a child ever has the shared lock, and only for a moment: a shell that kept it, frozen, would hinder every start.
wait_for_end() {
  read_plan "$1" || return 2
  w_left=$2 w_dir=$1
  number "$w_left" && [ "$w_left" -le 55 ] || w_left=55
  w_until=$(($(date +%s) + w_left))
  until [ -e "$w_dir/attempt" ]; do            # before attempt 1 has its lock, a free lock means nothing
    [ "$(date +%s)" -lt "$w_until" ] || return 1
    nap
    w_left=$((w_until - $(date +%s)))
  done
  [ -e "$p_lockdir/chain.lock" ] || return 0
  if flock --help 2>&1 | grep -q -e '-w'; then
    [ "$w_left" -gt 0 ] || w_left=0             # whole: a second that turns here would take a short hold away
    flock -s -w "$w_left" "$p_lockdir/chain.lock" true </dev/null >/dev/null 2>&1
    return
  fi
  while w_held; do                             # no flock that waits: ask again twice a second
    [ "$(date +%s)" -lt "$w_until" ] || return 1
    sleep 0.5 2>/dev/null || sleep 1
  done
  return 0
}
w_held() {                                     # by the lock where there is a flock, else by the chain's identity
  if command -v flock >/dev/null 2>&1; then ! flock -n -s "$p_lockdir/chain.lock" true 2>/dev/null; return; fi
  load "$w_dir/attempt" && lives "$r_pid" "$r_born" "$r_boot"
}
