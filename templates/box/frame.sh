# Answering: everything a script has to say goes into one frame (docs/box.md), so that banners, start-up noise
# and cut answers are told from it. Sections are collected in a variable: nothing is written on the box.
lc_was=${LC_ALL-}                # what a job that we start gets back
LC_ALL=C; export LC_ALL
body='' nl='
'
home_path() {                     # home_path PATH: sets path; `~` and what is relative begin at the home folder
  case $1 in
    /*) path=$1 ;;
    '~') path=${HOME:-} ;;
    '~/'*) path=${HOME:-}/${1#??} ;;
    *) path=${HOME:-}/$1 ;;
  esac
}
section() {                       # section NAME RUN|- STATUS CONTENT
  body="$body@ $1 $2 $3 ${#4}$nl$4$nl"
}
answer() {                        # answer TOKEN: the frame, whole, and nothing after it
  sum=$(printf %s "$body" | cksum); sum=${sum%% *}
  printf 'babysit-frame 1 %s %s %s\n%s\nbabysit-end %s\n' "$1" "${#body}" "$sum" "$body" "$1"
}
