echo train >>steps; [ -e go ] || exit 3
