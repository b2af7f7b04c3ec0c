# The ground of every script that arms: the request as variables, the state folder, plain names, durable moves.
# After frame.sh. A request line `key value` becomes $in_key; `file` lines are collected in $in_files, `word` lines in
# $in_words.
umask 077
in_files='' in_words='' line=''
while IFS= read -r line; do
  [ "$line" = end ] && break
  key=${line%% *} value=${line#* } line=''
  case $key in
    file) in_files=$in_files$value$nl ;;
    word) in_words=$in_words$value$nl ;;
    '' | *[!a-z_]*) ;;
    *) eval "in_$key=\$value" ;;
  esac
done
[ "$line" = end ] || { echo 'the request was cut' >&2; exit 65; }
short=${in_frame%"${in_frame#????????}"}      # eight digits of the token: no other visit has them

finish() { answer "$in_frame"; exit 0; }
refuse() {                        # refuse STATUS WHAT [HINT]: STATUS is the exit code of what it means
  body=''
  section error - "$1" "$2${3:+$nl$3}"
  finish
}
plain() {                         # plain TEXT: can it be a run's name or id?
  case $1 in '' | *[!A-Za-z0-9._-]* | [!A-Za-z0-9]*) return 1 ;; esac
  [ "${#1}" -le 64 ]
}
path_of() {                       # path_of VALUE DEFAULT: as home_path, `-` is the default
  case $1 in - | '') path=$2 ;; *) home_path "$1" ;; esac
}
settle() {                        # settle FILE...: on disk when this returns
  sync "$@" 2>/dev/null || ! command -v sync >/dev/null 2>&1 || sync
}
move() {                          # move FROM TO: a rename; never into a folder that stands at TO
  mv -fT "$1" "$2" 2>/dev/null && return 0
  [ -e "$1" ] || [ -L "$1" ] || return 1
  { [ ! -L "$2" ] && [ -d "$2" ]; } || ! mv -f "$1" "$2" || return 0
  return 1
}
sweep() {                         # sweep FOLDER GLOB: what a killed visit left there more than a day ago
  [ ! -d "$1" ] || find "$1/." ! -name . -prune -name "$2" -mtime +0 -exec rm -rf {} + 2>/dev/null
}
df_line() {                       # df_line FOLDER: what is free there, as df says it
  df -Pk "$1" 2>/dev/null | sed -n 2p
  df -Pi "$1" 2>/dev/null | sed -n '2s/^/inodes: /p'
}
owner_of() {                      # owner_of NAME: sets owner, '' when nobody has the name
  owner=$(readlink "$state/names/$1" 2>/dev/null) || owner=''
  hops=0
  # Who came after an owner is decided by .after-<owner>, once for ever; the name itself may lag behind it.
  while [ -n "$owner" ] && next=$(readlink "$state/names/.after-$owner" 2>/dev/null); do
    owner=$next hops=$((hops + 1))
    [ "$hops" -lt 1000 ] || refuse 12 "the owners of $1 go round in a circle" "$state/names"
  done
  [ -z "$owner" ] || plain "$owner" || refuse 12 "the name $1 points at something that is no run id" "$state/names"
}

case ${HOME:-} in /*) ;; *) refuse 2 'HOME is not set on the box' 'its login shell must know a home folder' ;; esac
path_of "${in_state:--}" "$HOME/.local/state/babysit"; state=$path
share=$HOME/.local/share/babysit
