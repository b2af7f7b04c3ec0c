# One command of the shipped tool: to the loops on this box, or to a queue. After frame.sh and ground.sh.
# Request: tool NAME, size BYTES, sum SUM, loops FOLDER where they lie in one of their own, and a line `word TEXT` for
# each word of the command line, in which a backslash or a control character stands as \0 and three octal digits:
# words are data and reach the tool exactly as they are.
# Answer: section `answer`, what the tool printed, its status that of the tool; or `tool`, with status 2: it is not there.
# What the tool complains of goes to standard error. It ends by itself: every question has its limit.
plain "${in_tool:-}" || refuse 12 'not a name of the shipped tool'
tool=$share/$in_tool
if [ ! -f "$tool" ] || [ -L "$tool" ] || [ "$(cksum <"$tool")" != "$in_sum $in_size" ]; then
  section tool - 2 ''
  finish
fi
touch -c "$tool" 2>/dev/null      # its age is how long nobody has wanted it
python=''
for name in python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python; do
  command -v "$name" >/dev/null 2>&1 || continue
  "$name" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
  python=$name
  break
done
[ -n "$python" ] || refuse 2 'no Python 3.8 or newer on the box' 'loops are asked by a tool that needs one'
set --
while [ -n "$in_words" ]; do
  word=$(printf '%bx' "${in_words%%"$nl"*}") in_words=${in_words#*"$nl"}
  set -- "$@" "${word%x}"
done
if [ -n "${in_loops:-}" ]; then path_of "$in_loops" -; LOOPCTL_DIR=$path; export LOOPCTL_DIR; fi
LC_ALL=$lc_was; [ -n "$lc_was" ] || unset LC_ALL
out=$("$python" -I -S "$tool" "$@" </dev/null)
rc=$?
LC_ALL=C; export LC_ALL
section answer - "$rc" "$out"
finish
