# Reading what was armed: a run by its name or id, all names, the end of a run's log. Writes nothing.
# Request: act, and what that act reads. After frame.sh and ground.sh.
size_of() { LS_BLOCK_SIZE=1 ls -ln "$1" | { read -r _ _ _ _ size _; printf %s "$size"; }; }   # never reads the file; LS_BLOCK_SIZE: bytes, whatever BLOCK_SIZE says
part() {                          # part NAME FILE MAX: the file as a section; 1 not a plain file, 27 longer than MAX
  if [ -L "$2" ] || [ ! -f "$2" ] || [ ! -r "$2" ]; then section "$1" - 1 ''; return; fi
  if [ "$(size_of "$2")" -gt "$3" ]; then section "$1" - 27 ''; return; fi
  content=$(cat "$2"; echo x)
  section "$1" - 0 "${content%x}"
}
run() {                           # run: a name or an id; a name goes first
  plain "$in_run" || refuse 12 'not a run name or id'
  owner_of "$in_run"
  id=${owner:-$in_run}
  folder=$state/runs/$id
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then
    [ -z "$owner" ] || refuse 3 "the name $in_run belongs to $owner, whose folder is gone" "$folder"
    finish
  fi
  if [ -z "$owner" ]; then
    name=$(sed -n '/^run=/{s///p;q;}' "$folder/plan" 2>/dev/null)
    ! plain "$name" || owner_of "$name"
  fi
  section owner - 0 "$owner"
  section id - 0 "$id"
  section folder - 0 "$folder"
  part plan "$folder/plan" 65536
  part spec "$folder/spec.json" 262144
  part nonce "$folder/nonce" 64
  part budget "$folder/budget" 64
  part code "$folder/code.json" 65536
}
names() {
  list=''
  [ -d "$state/names" ] && cd "$state/names" || finish
  for name in *; do
    plain "$name" && [ -L "$name" ] || continue
    list=$list$name$nl
    [ "${#list}" -lt 100000 ] || break
  done
  section names - 0 "$list"
}
log() {                           # id from max: bytes of run.log from an offset, or `-` for its end
  plain "$in_id" || refuse 12 'not a run id'
  case $in_max in '' | *[!0-9]*) refuse 12 'not a size' ;; esac
  file=$state/runs/$in_id/run.log
  [ -d "$state/runs/$in_id" ] || refuse 3 "no run $in_id on the box" "$state/runs/$in_id"
  if [ -L "$file" ] || { [ -e "$file" ] && [ ! -f "$file" ]; }; then refuse 12 'the log is no plain file' "$file"; fi
  [ -e "$file" ] || refuse 3 "no log yet: nothing of $in_id has started" "$file"
  size=$(size_of "$file")
  case $in_from in
    -) from=$((size - in_max)); [ "$from" -ge 0 ] || from=0 ;;
    '' | *[!0-9]*) refuse 12 'not an offset' ;;
    *) from=$in_from; [ "$from" -le "$size" ] || from=$size ;;
  esac
  left=$((size - from))
  [ "$left" -le "$in_max" ] || left=$in_max
  # By blocks, so that a log of any length costs no more than what is shown of it.
  content=$(dd if="$file" bs=4096 skip=$((from / 4096)) count=$((left / 4096 + 2)) 2>/dev/null |
    tail -c +$((from % 4096 + 1)) | head -c "$left"; echo x)
  section size - 0 "$size"
  section start - 0 "$from"
  section log - 0 "${content%x}"
}

case $in_act in
  run | names | log) "$in_act"; finish ;;
  *) refuse 12 'no such act' ;;
esac
