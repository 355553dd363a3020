#!/bin/sh
# Start Redis in its image with the users of users.acl.
set -eu

sh "$(dirname "$0")/users.sh" > /tmp/users.acl
# The entry point of the image starts Redis as the user `redis`.
exec docker-entrypoint.sh redis-server --aclfile /tmp/users.acl "$@"
