#!/bin/sh
# Start Redis in its image with the users of users.acl.
set -eu

file="${TMPDIR:-/tmp}/users.acl"
sh "$(dirname "$0")/users.sh" > "$file"
# The entry point of the image starts Redis as the user `redis`.
exec docker-entrypoint.sh redis-server --aclfile "$file" "$@"
