#!/bin/sh
# A call with curl alone: place it, look at it, hang it up.
#     sh examples/curl.sh 210 5302040 3235742879
set -eu
api=${RINGBACK_URL:-http://127.0.0.1:8080}/uapi/phoneCalls/@me
token=${RINGBACK_TOKEN:-demo-user-token}

ask() {
    curl -sS --fail-with-body -H "Authorization: Bearer $token" "$@"
}

# The nonce makes it safe to send the request again: the call is placed once.
nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
answer=$(ask --retry 5 -d "{\"extension\": \"$1\", \"nonce\": \"$nonce\",
    \"phoneCallView\": [{\"source\": [\"$2\"], \"destination\": [\"$3\"]}]}" "$api/simple")
echo "$answer"
# What was answered before a retry stands in lines of its own.
id=$(echo "$answer" | sed -n 's/^\[.*"id":"\([0-9a-f]*\)".*/\1/p')

ask "$api/@self/$id?fields=id,state"
ask -X DELETE "$api/@self/$id"
# Every change of every call, until Ctrl-C:
#     curl -N -H "Authorization: Bearer $token" "$api/events"
