# What this box has, for one run to be armed: tools, room, identities, the code it would start with. Makes the state
# folder and the box's id; changes nothing else, and nothing at all when it is asked `dry yes`.
# Request: state lockdir cwd run onbox newid dry, and what code.sh asks for. After frame.sh, ground.sh and code.sh.
began=$(date +%s.%N)
dry=${in_dry:-no}

say() { section "$1" - "$2" "$3"; }
tool() {                          # tool NAME: its path; no section when it is not there
  found=$(command -v "$1" 2>/dev/null) || return 0
  case $found in /*) say "$1" 0 "$found" ;; esac
}
nearest() {                       # nearest FOLDER: sets near to it, or to the first folder above it that exists
  near=$1
  while [ ! -d "$near" ]; do near=${near%/*}; near=${near:-/}; done
}
fs_of() {                         # fs_of FOLDER: its file system's type as the kernel names it
  mount=$(bounded 5 df -Pk "$1" 2>/dev/null | sed -n '2s/.*% *//p') fs=''
  while read -r _ at type _; do [ "$at" != "$mount" ] || fs=$type; done </proc/mounts
  [ -n "$fs" ] || fs=$(bounded 5 stat -f -c %T "$1" 2>/dev/null) || fs=''
  printf %s "$fs"
}
writable() {                      # writable FOLDER: made, ours, 0700, and a block can be written there
  if [ "$dry" = yes ]; then
    nearest "$1"
    [ -w "$near" ] || { echo "$near cannot be written"; return 1; }
    return
  fi
  mkdir -p "$1" || return
  [ -O "$1" ] || { echo "$1 belongs to another user"; return 1; }
  chmod 700 "$1" || return
  dd if=/dev/zero of="$1/.try.$short" bs=4096 count=1 && settle "$1/.try.$short"
  tried=$?
  rm -f "$1/.try.$short"
  return "$tried"
}
identify() {                      # the box's own id, made once: a name that exists is never replaced
  [ "$dry" = no ] || return 0
  [ ! -e "$state/box" ] || return 0
  printf 'id=%s\n' "$in_newid" >"$state/.box.$short" && settle "$state/.box.$short" &&
    { ln "$state/.box.$short" "$state/box" 2>/dev/null || [ -e "$state/box" ] || move "$state/.box.$short" "$state/box"; }
  made=$?
  rm -f "$state/.box.$short"
  settle "$state"
  return "$made"
}


why=$({ writable "$state" && { [ "$dry" = yes ] || mkdir -p "$state/names" "$state/runs"; } && identify; } 2>&1) || say state_error 0 "${why:-unknown}"
say state 0 "$state"
[ "$dry" = yes ] || { sweep "$state" '.box.*'; sweep "$state" '.try.*'; }
nearest "$state"; say fs 0 "$(fs_of "$near")"
say room $? "$(bounded 5 df -Pk "$near" 2>/dev/null | sed -n 2p)"
say inodes $? "$(bounded 5 df -Pi "$near" 2>/dev/null | sed -n 2p)"

path_of "${in_lockdir:--}" "$state"; say lockdir 0 "$path"
if [ "$path" != "$state" ]; then
  why=$(writable "$path" 2>&1) || say lock_error 0 "${why:-unknown}"
fi
nearest "$path"; say lock_fs 0 "$(fs_of "$near")"

if [ "${in_cwd:--}" != - ]; then
  path_of "$in_cwd" -
  [ -d "$path" ] && [ -x "$path" ]
  say cwd $? "$path"
fi

say os $? "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tr -d '\042')"
say arch $? "$(uname -m)"
say sh $? "$(readlink /proc/$$/exe)"
for name in bash setsid flock perl; do tool "$name"; done
[ "$can_bound" = no ] || tool timeout
tmux=$(bounded 5 tmux -V 2>/dev/null) && say tmux 0 "$tmux"
for name in python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python; do
  command -v "$name" >/dev/null 2>&1 || continue
  python=$(bounded 5 "$name" -I -S -c 'import sys
print("%d.%d.%d" % sys.version_info[:3], sys.executable)
sys.exit(sys.version_info < (3, 8))' 2>/dev/null) || continue
  say python 0 "$python"
  break
done
if command -v nvidia-smi >/dev/null 2>&1; then
  gpus=$(bounded 5 nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null)
  say gpus $? "$gpus"
fi

say home 0 "$HOME"
say user 0 "$(id -u) $(id -un)"
say boot $? "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
say machine $? "$(cat /etc/machine-id 2>/dev/null)"
if [ "$dry" = yes ] && [ ! -e "$state/box" ]; then say box 0 "$in_newid"
else box=$(sed -n 's/^id=//p' "$state/box" 2>/dev/null) && say box 0 "$box"; fi
if plain "${in_onbox:--}" && [ -f "$share/$in_onbox" ] && [ ! -L "$share/$in_onbox" ]; then
  say onbox $? "$(cksum <"$share/$in_onbox")"
  # Its age is how long nobody has wanted it: what somebody is about to use is not cleared away.
  [ "$dry" = yes ] || touch -c "$share/$in_onbox" 2>/dev/null
fi
plain "${in_run:--}" || refuse 2 'not a run name'
owner_of "$in_run"; say owner 0 "$owner"
[ -z "${in_codedir:-}" ] || code_now
say clock 0 "$began $(date +%s.%N)"
finish
