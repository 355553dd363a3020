#!/bin/sh
# Print the users of users.acl as Redis reads them (`aclfile`), with passwords from the environment.
#
#     REDIS_PASSWORD=… REDIS_API_PASSWORD=… sh deploy/redis/users.sh > users.acl
#
# What it prints holds the SHA-256 of each password.
set -eu

file="${1:-$(dirname "$0")/users.acl}"
sed -e '/^#/d' -e '/^$/d' "$file" |
    awk '/^ / { sub(/^ +/, ""); line = line " " $0; next } { if (line) print line; line = $0 } END { print line }' |
    while IFS= read -r line; do
        name=$(expr "$line" : '.* #\([A-Z_]*\)')
        eval "password=\${$name:-}"
        if [ -n "$password" ]; then
            sum=$(printf %s "$password" | sha256sum)
            put="on #${sum%% *}"
        elif [ "$name" = REDIS_PASSWORD ]; then
            echo "users.sh: REDIS_PASSWORD is not set" >&2
            exit 2
        else
            put=off
        fi
        printf '%s\n' "$line" | sed "s/on #$name/$put/"
    done
