#!/bin/sh
# What docker-compose.yml uses of the official image's entrypoint: makes the data on first start
# (POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS),
# then becomes the server.
set -eu

fail() {
    echo "docker-entrypoint.sh: $1" >&2
    exit 1
}

# Whole or not at all: made in a folder below, moved up, and PG_VERSION, by which the data is known
# to be there, comes last. A folder that an earlier start left half done is made again.
make_data() {
    new=$PGDATA/.new
    user=${POSTGRES_USER:-postgres}
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
    [ -n "${POSTGRES_PASSWORD:-}" ] || fail "no data yet, and neither POSTGRES_PASSWORD nor POSTGRES_PASSWORD_FILE is set"
    if [ -e "$new" ]; then find "$PGDATA" -mindepth 1 -delete; fi
    words=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$words"
    # shellcheck disable=SC2086 # POSTGRES_INITDB_ARGS holds several words
    initdb -D "$new" --username="$user" --pwfile="$words" --encoding=UTF8 --locale=C \
        --auth=scram-sha-256 --no-instructions ${POSTGRES_INITDB_ARGS:-} ||
        { rm -rf "$new" "$words"; fail "initdb failed"; }
    rm "$words"
    echo "listen_addresses = '*'" >>"$new/postgresql.conf"
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    if [ "${POSTGRES_DB:-$user}" != postgres ]; then
        echo "CREATE DATABASE \"${POSTGRES_DB:-$user}\"" | postgres --single -D "$new" postgres >/dev/null
    fi
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    mv "$new/PG_VERSION" "$PGDATA/" && rmdir "$new"
}

case ${1:-postgres} in
    -*) set -- postgres "$@" ;;
esac
if [ "$1" = postgres ]; then
    [ "$(id -u)" != 0 ] || fail "PostgreSQL does not run as root; leave the image's user as it is"
    umask 077
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" 2>/dev/null || fail "$PGDATA does not belong to uid $(id -u); use a new volume"
    [ -e "$PGDATA/PG_VERSION" ] || make_data
fi
exec "$@"
