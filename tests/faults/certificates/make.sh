#!/usr/bin/env bash
# Makes the certificates that row 27 of the fault suite serves with: one of an authority of its own for
# localhost, one for another host, one that has expired, and one that signed itself. They guard nothing.
set -euo pipefail
cd "$(dirname "$0")"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
sign() { # NAME HOST NOT_BEFORE NOT_AFTER
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
  printf 'subjectAltName=DNS:%s\nbasicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' "$2" > "$1.ext"
  openssl ca -batch -notext -config <(printf '%s\n' '[ca]' 'default_ca=a' '[a]' "database=index" 'new_certs_dir=.' \
    'default_md=sha256' 'policy=p' 'rand_serial=yes' 'unique_subject=no' '[p]' 'commonName=supplied') \
    -cert authority.pem -keyfile authority.key -in "$1.csr" -extfile "$1.ext" -out "$1.crt" \
    -startdate "$3" -enddate "$4" 2>/dev/null
  cat "$1.crt" "$1.key" > "$1.pem"
}
key authority
openssl req -x509 -new -key authority.key -subj "/CN=Tutelage test authority" -days 36500 -out authority.pem \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
: > index
sign good localhost 20250101000000Z 21000101000000Z
sign wrong_host elsewhere.invalid 20250101000000Z 21000101000000Z
sign expired localhost 20200101000000Z 20210101000000Z
key self_signed
openssl req -x509 -new -key self_signed.key -subj "/CN=localhost" -addext subjectAltName=DNS:localhost -days 36500 \
  -out self_signed.crt
cat self_signed.crt self_signed.key > self_signed.pem
find . -type f ! -name make.sh ! -name '*.pem' -delete
find . -name '[0-9A-F]*.pem' -delete
