#!/bin/sh
# Make the secrets of compose.yml: random passwords, and the addresses that hold them.
#
#     sh deploy/secrets.sh            # into ./secrets
#
# A file that is there stays as it is. To replace a password, delete its file and the file of the
# address that holds it, and run this again.
set -eu
umask 077

folder="${1:-secrets}"
mkdir -p "$folder"

# The containers read the files as users of their own. The folder keeps other users of this machine out.
put() {
    [ -e "$folder/$1" ] && return
    cat > "$folder/$1"
    chmod 444 "$folder/$1"
    echo "made $folder/$1"
}

# The shell itself writes what is between the marks: no process has a password among its arguments.
url() {
    put "$1" <<END
redis://$2:$(cat "$folder/$3")@redis:6379/0
END
}

# Letters and digits alone: they stand in URLs, and in XML.
for name in redis redis_api redis_worker redis_listener redis_webhooks redis_records postgres esl freeswitch grafana; do
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' | put "${name}_password"
done
# Programs beside Ringback cannot log in to Redis until their password stands here.
for name in redis_poller redis_enqueuer; do
    put "${name}_password" < /dev/null
done

url redis_url "" redis_password
for name in api worker listener webhooks records; do
    url "redis_${name}_url" "ringback-$name" "redis_${name}_password"
done
put records_url <<END
postgresql://ringback:$(cat "$folder/postgres_password")@postgres:5432/ringback
END
put switches <<END
main=esl://ringback%40ringback:$(cat "$folder/esl_password")@freeswitch:8021
END
