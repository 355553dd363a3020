#!/bin/sh
# Puts the passwords and the network of this deployment into the files of freeswitch/conf, and
# starts the switch. What it is given are options of the switch.
set -eu

from=${RINGBACK_CONF:-/ringback}
to=${RINGBACK_CONF_MADE:-/run/ringback}
own=$(cat "$FREESWITCH_PASSWORD_FILE")
user=$(cat "$RINGBACK_ESL_PASSWORD_FILE")

# They stand in XML and in a URL as they are.
for password in "$own" "$user"; do
    case $password in
        '' | *[!A-Za-z0-9]*)
            echo 'The passwords of the event socket take letters and digits.' >&2
            exit 2
            ;;
    esac
done

mkdir -p "$to"
# A script of sed and the shell's own printf: no process has a password among its arguments.
put() {
    (umask 077 && printf '%s\n' "$1" >"$to/script")
    sed -f "$to/script" "$2"
    rm "$to/script"
}

put "s/change-me-too/$own/
s/value=\"127.0.0.1\"/value=\"0.0.0.0\"/" "$from/autoload_configs/event_socket.conf.xml" \
    >"$to/event_socket.conf.xml"
put "s|</list>|<node type=\"allow\" cidr=\"$RINGBACK_NETWORK\"/></list>|" \
    "$from/autoload_configs/acl.conf.xml" >"$to/acl.conf.xml"
put "s/change-me/$user/" "$from/directory/ringback.xml" >"$to/user.xml"
# fs_cli reads it where HOME is this folder.
(umask 077 && printf '[default]\nhost => 127.0.0.1\npassword => %s\n' "$own" >"$to/.fs_cli_conf")

# As process 1 it gets the signal to stop itself.
exec freeswitch -nonat -nf -nc "$@"
