#!/usr/bin/env bash
# Makes a private CA that can vouch for api.weixin.qq.com and for nothing else, and a certificate of it for Envoy.
#
#   certificate.sh FOLDER
#
#   FOLDER/ca/          ca.key and ca.pem. Stays where you run this: neither Envoy nor a service needs the key
#   FOLDER/envoy/       server.pem, key and certificate in one file: for Envoy alone
#   FOLDER/services/    what the services trust: ca.pem; bundle.pem, the system's CAs and this one; truststore.p12, Java's and this one
#
# The CA is made where there is none and lives for three years; the certificate is made anew each time and lives for 90 days. Run it
# again once a month: Envoy takes the new file up without a restart, and services trust it as before. Keys are readable by their owner
# only. Needs OpenSSL 1.1.1 or newer; keytool, of a JDK, for the truststore alone.
set -euo pipefail
umask 077

readonly NAME=api.weixin.qq.com
readonly CA_DAYS=1095
readonly DAYS=90
readonly PASSWORD=changeit # Java's own for a file that holds no secret

die() {
    printf 'certificate.sh: %s\n' "$*" >&2
    exit 1
}

quietly() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2 && die "failed: $1 $2"; }
}

# Puts a finished file in its place in one step, so that nobody ever reads a half of one: mode, from, to.
place() {
    chmod "$1" "$2"
    mv -f "$2" "$3"
}

[[ $# -eq 1 && $1 != -* ]] || die "usage: certificate.sh FOLDER"
command -v openssl >/dev/null || die "openssl is missing: install it"
mkdir -p "$1"/{ca,envoy,services}
chmod 755 "$1" "$1/services"
cd "$1"
# In the same file system as what it is made for.
work=$(mktemp -d "$PWD/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT

make_ca() {
    # Whoever gets the key can deceive nobody but these services, and those only about this name: no other host, no address.
    cat >"$work/ca.cnf" <<CNF
[req]
prompt = no
distinguished_name = name
x509_extensions = ca
[name]
CN = WeChat calls through Envoy, $(date -u +%Y-%m-%d)
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;DNS:$NAME, excluded;IP:0.0.0.0/0.0.0.0, excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0
CNF
    quietly openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
    quietly openssl req -x509 -new -sha256 -config "$work/ca.cnf" -key "$work/ca.key" -days "$CA_DAYS" -out "$work/ca.pem"
    place 600 "$work/ca.key" ca/ca.key
    place 644 "$work/ca.pem" ca/ca.pem
}

# The files for services change with the CA only.
make_trust() {
    local bundle
    cp ca/ca.pem "$work/services.pem"
    place 644 "$work/services.pem" services/ca.pem
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        [[ -r $bundle ]] || continue
        cat "$bundle" ca/ca.pem >"$work/bundle.pem"
        place 644 "$work/bundle.pem" services/bundle.pem
        break
    done
    [[ -f services/bundle.pem ]] || printf 'certificate.sh: no bundle.pem: this system has no bundle of CAs\n' >&2
    if command -v keytool >/dev/null; then
        local own
        own=$(dirname "$(dirname "$(readlink -f "$(command -v keytool)")")")/lib/security/cacerts
        quietly keytool -importkeystore -noprompt -srckeystore "$own" -srcstorepass "$PASSWORD" \
            -destkeystore "$work/truststore.p12" -deststoretype PKCS12 -deststorepass "$PASSWORD"
        quietly keytool -importcert -noprompt -alias wechat-through-envoy -file ca/ca.pem \
            -keystore "$work/truststore.p12" -storepass "$PASSWORD"
        place 644 "$work/truststore.p12" services/truststore.p12
    fi
}

if [[ ! -f ca/ca.key ]]; then
    make_ca
    make_trust
fi
openssl x509 -in ca/ca.pem -noout -checkend $((DAYS * 86400)) >/dev/null ||
    die "the CA ends before the certificate would: make a new one in another folder, let the services trust both, then change Envoy's"

cat >"$work/server.ext" <<EXT
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:$NAME
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EXT
quietly openssl ecparam -name prime256v1 -genkey -noout -out "$work/server.key"
quietly openssl req -new -sha256 -key "$work/server.key" -subj "/CN=$NAME" -out "$work/server.csr"
quietly openssl x509 -req -sha256 -in "$work/server.csr" -CA ca/ca.pem -CAkey ca/ca.key \
    -set_serial "0x$(openssl rand -hex 16)" -days "$DAYS" -extfile "$work/server.ext" -out "$work/server.crt"
quietly openssl verify -CAfile ca/ca.pem -verify_hostname "$NAME" "$work/server.crt"
cat "$work/server.key" "$work/server.crt" >"$work/server.pem"
place 600 "$work/server.pem" envoy/server.pem
printf 'certificate.sh: %s/envoy/server.pem, good until %s\n' "$1" "$(openssl x509 -in envoy/server.pem -noout -enddate | cut -d= -f2)"
