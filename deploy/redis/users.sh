#!/bin/sh
# Print the users of users.acl as Redis reads them (`aclfile`). Their passwords are in the environment,
# or in the files that the environment names.
#
#     REDIS_PASSWORD=… REDIS_API_PASSWORD_FILE=/run/secrets/redis_api_password sh deploy/redis/users.sh > users.acl
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
        eval "password=\${$name:-} from=\${${name}_FILE:-}"
        if [ -n "$from" ]; then
            password=$(cat "$from")
        fi
        if [ -n "$password" ]; then
            # printf is part of the shell: no process has the password among its arguments.
            sum=$(printf %s "$password" | sha256sum)
            put="on #${sum%% *}"
        elif [ "$name" = REDIS_PASSWORD ]; then
            echo "users.sh: REDIS_PASSWORD is not set" >&2
            exit 2
        else
            put=off
        fi
        printf '%s\n' "${line%%on "#$name"*}$put${line#*on "#$name"}"
    done
