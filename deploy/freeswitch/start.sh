#!/bin/sh
# Puts the passwords and the network of this deployment into the files of freeswitch/conf, and
# starts the switch. What it is given are options of the switch.
set -eu

from=${RINGBACK_CONF:-/ringback}
to=${RINGBACK_CONF_MADE:-/run/ringback}

# They stand in XML and in a URL as they are.
for password in "$FREESWITCH_PASSWORD" "$RINGBACK_ESL_PASSWORD"; do
    case $password in
        '' | *[!A-Za-z0-9]*)
            echo 'The passwords of the event socket take letters and digits.' >&2
            exit 2
            ;;
    esac
done

mkdir -p "$to"
sed -e "s/change-me-too/$FREESWITCH_PASSWORD/" -e 's/value="127.0.0.1"/value="0.0.0.0"/' \
    "$from/autoload_configs/event_socket.conf.xml" >"$to/event_socket.conf.xml"
sed -e "s|</list>|<node type=\"allow\" cidr=\"$RINGBACK_NETWORK\"/></list>|" \
    "$from/autoload_configs/acl.conf.xml" >"$to/acl.conf.xml"
sed -e "s/change-me/$RINGBACK_ESL_PASSWORD/" \
    "$from/directory/ringback.xml" >"$to/user.xml"

# As process 1 it gets the signal to stop itself.
exec freeswitch -nonat -nf -nc "$@"
