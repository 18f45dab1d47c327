#!/bin/sh
# Makes what compose.yaml mounts and nobody commits: secrets, a self-signed certificate, the folder of the logs. What is
# there stays. The folder of the secrets is its owner's; the files in it are read by the users of the containers.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${1:-"$here/../.."}
secrets=${2:-"$here/secrets"}
mkdir -p "$secrets/providers" "$root/ssl" "$root/logs"
chmod 700 "$secrets"

put() { # NAME: standard input into the file, unless it is there
    if [ -e "$secrets/$1" ]; then cat > /dev/null; else cat > "$secrets/$1" && chmod 444 "$secrets/$1"; fi
}
for name in jwt_secret_key field_encryption_key mongodb_root_password mongodb_engine_password redis_password \
    grafana_admin_password; do
    openssl rand -hex 32 | put "$name"
done
openssl rand -base64 756 | put mongodb_keyfile
mongo=$(cat "$secrets/mongodb_engine_password")
redis=$(cat "$secrets/redis_password")
echo "mongodb://engine:$mongo@mongo:27017/?replicaSet=rs0&authSource=admin" | put mongodb_url
echo "redis://engine:$redis@redis:6379" | put redis_url
put redis_acl << END
user default on nopass -@all +ping
user engine on >$redis ~ne:* &ne:* -@all +@pubsub +@connection +@read +@write +@transaction +@scripting -@dangerous
END

if [ ! -e "$root/ssl/tls.crt" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$root/ssl/tls.key" -out "$root/ssl/tls.crt" 2> /dev/null
    echo "ssl/tls.crt is self-signed and good for 30 days: put your own there, with its chain, and tls.key."
fi
if [ "$(id -u)" = 0 ]; then
    chown 10001:10001 "$root/logs"
else
    echo "The engine writes to logs/ as user 10001: sudo chown 10001:10001 $root/logs"
fi
