#!/bin/sh
# Print the users of users.acl as Redis reads them (`aclfile`), with passwords from the environment.
#
#     REDIS_PASSWORD=… REDIS_API_PASSWORD=… sh deploy/redis/users.sh > users.acl
#
# What it prints holds the SHA-256 of each password.
set -eu

file="$(dirname "$0")/users.acl"
# Redis lets anybody in who comes as `default` if its file is empty.
[ -r "$file" ] || exit 2
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
