#!/bin/sh
# Run sonoshare in a container. A secret is a file: where NAME_FILE names one, NAME is what stands in it. So a password
# is neither in the image, nor in the compose file, nor in what `inspect` shows of the container.
set -eu
umask 077
for name in DATABASE_URL SONOSHARE_BLOBS SONOSHARE_SMTP AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    eval "file=\${${name}_FILE:-}"
    [ -n "$file" ] || continue
    [ -r "$file" ] || { echo "error: the file that ${name}_FILE names cannot be read" >&2; exit 1; }
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
done
exec sonoshare "$@"
