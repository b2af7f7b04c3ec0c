echo train >>steps; until [ -e go ]; do sleep 0.1; done
