# shellcheck shell=bash disable=SC2154 # dir: set by `services`
# Certificates for the services, all PEM, in DIR/certs: a CA, a server certificate for localhost
# and 127.0.0.1, clients alice and bob, and a stranger whose certificate that CA did not sign.

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
    cat server.key server.pem ca.pem >server.bundle.pem # Kafka wants key and chain in one file
    chmod 600 ./*.key server.bundle.pem
    rm -f ./*.csr ./*.ext
  ) 2>"$dir/certs.log"
  touch "$at/.complete"
}
