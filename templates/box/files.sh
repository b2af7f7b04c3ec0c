# Reading a run's result files, each from its beginning and bounded. Writes nothing. After frame.sh and ground.sh.
# Request: cwd FOLDER|-, max BYTES, then a line `file PATH` each, from the run's folder of work.
# Answer: sections `size` (decimal, status 0; 2 nothing there, 3 no plain file, 4 cannot be read) and `file`, in turn.
path_of "${in_cwd:--}" "$HOME"; base=$path
case ${in_max:-} in '' | *[!0-9]*) refuse 12 'not a size' ;; esac
left=$in_files
while [ -n "$left" ]; do
  name=${left%%"$nl"*} left=${left#*"$nl"}
  case $name in '~' | '~/'* | /*) path_of "$name" - ;; *) path=$base/$name ;; esac
  if [ ! -e "$path" ]; then section size - 2 ''; section file - 2 ''; continue; fi
  if [ ! -f "$path" ]; then section size - 3 ''; section file - 3 ''; continue; fi
  if [ ! -r "$path" ]; then section size - 4 ''; section file - 4 ''; continue; fi
  size=$(wc -c <"$path")
  content=$(head -c "$in_max" <"$path" | tr -d '\000'; echo x)
  section size - 0 "$((size))"
  section file - 0 "${content%x}"
done
finish
