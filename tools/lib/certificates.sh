# shellcheck shell=bash disable=SC2154 # dir: set by `services`
# Certificates for the services, all PEM, in DIR/certs: a CA, a server certificate for localhost
# and 127.0.0.1, clients alice and bob, and a stranger whose certificate that CA did not sign. All
# others are alice in other clothes:
#   rsa, ed25519 .pem .key      other kinds of key
#   locked.key, .password       alice.key, encrypted
#   via.pem .key                signed by middle.pem, an intermediate of the CA; via-middle.pem has both
#   ca-middle.pem middle-ca.pem the CA's file with the intermediate, in either order
#   expired.pem, early.pem      alice.key's, out of their time
#   namesake.pem                a CA with the CA's name and another key
#   nosign.pem, by-nosign.pem   a "CA" that basicConstraints forbids to sign, and what it signed for alice.key

certs() {
  local at=$dir/certs
  [[ ! -e $at/.complete ]] || return 0
  need openssl
  mkdir -p "$at"
  chmod 700 "$at"
  (
    cd "$at" || exit
    key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 3650 -subj "/CN=shipper test CA" \
      -addext keyUsage=critical,keyCertSign,cRLSign
    openssl req -x509 "${key[@]}" -keyout stranger.key -out stranger.pem -days 3650 -subj /CN=stranger
    for name in server alice bob; do
      {
        echo 'basicConstraints=CA:FALSE'
        echo 'keyUsage=critical,digitalSignature'
        if [[ $name == server ]]; then
          echo 'extendedKeyUsage=serverAuth,clientAuth'
          echo 'subjectAltName=DNS:localhost,IP:127.0.0.1'
        else
          echo 'extendedKeyUsage=clientAuth'
        fi
      } >$name.ext
      openssl req "${key[@]}" -keyout $name.key -out $name.csr -subj "/O=shipper test/CN=$name"
      openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile $name.ext -out $name.pem
    done
    openssl req -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.csr -subj "/O=shipper test/CN=alice"
    openssl req -newkey ed25519 -nodes -keyout ed25519.key -out ed25519.csr -subj "/O=shipper test/CN=alice"
    for name in rsa ed25519; do
      openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile alice.ext -out $name.pem
    done
    echo 'open sesame' >locked.password
    openssl pkcs8 -topk8 -in alice.key -v2 aes256 -passout file:locked.password -out locked.key
    printf '%s\n' basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign >middle.ext
    openssl req "${key[@]}" -keyout middle.key -out middle.csr -subj "/O=shipper test/CN=middle"
    openssl x509 -req -in middle.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile middle.ext -out middle.pem
    openssl req "${key[@]}" -keyout via.key -out via.csr -subj "/O=shipper test/CN=alice"
    openssl x509 -req -in via.csr -CA middle.pem -CAkey middle.key -CAcreateserial -days 3650 -extfile alice.ext -out via.pem
    cat via.pem middle.pem >via-middle.pem
    cat ca.pem middle.pem >ca-middle.pem
    cat middle.pem ca.pem >middle-ca.pem
    # Only `openssl ca` sets a beginning, and it wants a register.
    : >register
    printf '%s\n' '[ca]' default_ca=us '[us]' database=register new_certs_dir=. rand_serial=yes default_md=sha256 \
      unique_subject=no policy=any '[any]' organizationName=optional commonName=supplied >register.cnf
    for name in expired:20200101000000Z:20200201000000Z early:20450101000000Z:20460101000000Z; do
      IFS=: read -r name from to <<<"$name"
      openssl ca -batch -notext -config register.cnf -cert ca.pem -keyfile ca.key -extfile alice.ext -in alice.csr \
        -startdate "$from" -enddate "$to" -out "$name.pem"
    done
    openssl req -x509 "${key[@]}" -keyout namesake.key -out namesake.pem -days 3650 -subj "/CN=shipper test CA" \
      -addext keyUsage=critical,keyCertSign,cRLSign
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout nosign.key -out nosign.csr -subj /CN=nosign
    openssl x509 -req -in nosign.csr -signkey nosign.key -days 3650 -extfile alice.ext -out nosign.pem
    openssl x509 -req -in alice.csr -CA nosign.pem -CAkey nosign.key -CAcreateserial -days 3650 -extfile alice.ext -out by-nosign.pem
    cat server.key server.pem ca.pem >server.bundle.pem # Kafka wants key and chain in one file
    chmod 600 ./*.key server.bundle.pem
    rm -f ./*.csr ./*.ext ./register* ./[0-9A-F]*.pem
  ) 2>"$dir/certs.log"
  touch "$at/.complete"
}
