#!/bin/sh
# redis-cli in the container of Redis, logged in as `default`:
#
#     docker compose exec redis sh /etc/ringback/cli.sh info memory
set -eu

# Of the environment, not of the arguments, which every user of the machine may read.
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH
exec redis-cli "$@"
