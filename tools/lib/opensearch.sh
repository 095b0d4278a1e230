# shellcheck shell=bash disable=SC2154 # dir, cache, lib: set by `services`
# OpenSearch, one node, run from Maven artifacts: the server and its netty module, no other module, so
# no scripts, no ingest pipelines, no reindex.
#   opensearch         plain HTTP, no users
#   opensearch-secure  with the security plugin: HTTPS, basic authentication, the plugin's demo users: admin
#                      may everything, readall may read, logstash may not; each password is the user's name

OPENSEARCH_VERSION=${OPENSEARCH_VERSION:-2.19.1} # the 2.x line runs on Java 17, 3.x wants 21
opensearch_plugin=$cache/opensearch-security-$OPENSEARCH_VERSION

opensearch_maven() { # GOAL OPTION...
  mvn -B -q -ntp "org.apache.maven.plugins:maven-dependency-plugin:2.8:$1" "${@:2}" >"$dir/mvn.log" 2>&1 </dev/null ||
    { tail -n 5 "$dir/mvn.log" >&2; die "Maven could not resolve OpenSearch $OPENSEARCH_VERSION, see $dir/mvn.log"; }
}

# Jars and plugin, resolved once into the cache: folders that are renamed when they are complete.
opensearch_install() {
  local to=$cache/opensearch-$OPENSEARCH_VERSION part
  need curl iproute2 openssl util-linux
  command -v java >/dev/null || need openjdk-17-jre-headless
  mkdir -p "$cache"
  if [[ ! -e $to/.complete ]]; then
    command -v mvn >/dev/null || need maven
    say "resolving OpenSearch $OPENSEARCH_VERSION with Maven (44 MB, once)"
    part=$(mktemp -d "$cache/.part.XXXXXX")
    opensearch_maven copy-dependencies -f "$lib/opensearch.pom.xml" "-Dversion.run=$OPENSEARCH_VERSION" -DincludeScope=runtime "-DoutputDirectory=$part"
    touch "$part/.complete"
    rm -rf "$to"
    chmod 755 "$part"
    mv "$part" "$to"
  fi
  [[ $1 == opensearch-secure && ! -e $opensearch_plugin ]] || return 0
  command -v mvn >/dev/null || need maven
  say "resolving the security plugin with Maven (44 MB, once)"
  part=$(mktemp -d "$cache/.part.XXXXXX")
  opensearch_maven unpack "-DoutputDirectory=$part" "-Dartifact=org.opensearch.plugin:opensearch-security:$OPENSEARCH_VERSION.0:zip"
  chmod 755 "$part"
  mv "$part" "$opensearch_plugin"
}

opensearch_config() {
  local name=$1 at=$dir/$1
  cat <<EOF
cluster.name: shipper-test
node.name: n1
path.data: $at/data
path.logs: $at
network.host: 127.0.0.1
http.port: $(port "$name")
transport.port: $(port "$name.transport")
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
EOF
  [[ $name == opensearch-secure ]] || return 0
  cat <<'EOF'
plugins.security.ssl.transport.pemcert_filepath: server.pem
plugins.security.ssl.transport.pemkey_filepath: server.key
plugins.security.ssl.transport.pemtrustedcas_filepath: ca.pem
plugins.security.ssl.transport.enforce_hostname_verification: false
plugins.security.ssl.http.enabled: true
plugins.security.ssl.http.pemcert_filepath: server.pem
plugins.security.ssl.http.pemkey_filepath: server.key
plugins.security.ssl.http.pemtrustedcas_filepath: ca.pem
plugins.security.allow_default_init_securityindex: true
plugins.security.nodes_dn: ["CN=server,O=shipper test"]
plugins.security.authcz.admin_dn: ["CN=alice,O=shipper test"]
EOF
}

# Its own copy of everything: the user it runs as may read neither the cache nor our home.
opensearch_files() {
  local name=$1 at=$dir/$1 module=$dir/$1/modules/transport-netty4
  mkdir -p "$at"/{config,data,tmp,plugins} "$module"
  if [[ ! -e $at/lib ]]; then
    mkdir "$at/lib.part"
    cp "$cache/opensearch-$OPENSEARCH_VERSION"/*.jar "$at/lib.part"
    mv "$at/lib.part"/{netty-,transport-netty4-}*.jar "$module" # in lib as well they are "jar hell"
    mv "$at/lib.part" "$at/lib"
  fi
  cat >"$module/plugin-descriptor.properties" <<EOF
description=Netty 4 based transport implementation
version=$OPENSEARCH_VERSION
name=transport-netty4
classname=org.opensearch.transport.Netty4Plugin
java.version=11
opensearch.version=$OPENSEARCH_VERSION
has.native.controller=false
EOF
  cat >"$module/plugin-security.policy" <<'EOF'
grant {
  permission java.net.SocketPermission "*", "accept,connect,listen,resolve";
  permission java.util.PropertyPermission "*", "read,write";
  permission java.lang.RuntimePermission "*";
  permission java.lang.reflect.ReflectPermission "suppressAccessChecks";
};
EOF
  cat >"$at/config/log4j2.properties" <<'EOF'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
EOF
  [[ $name == opensearch-secure ]] || return 0
  certs
  cp "$dir"/certs/{ca.pem,server.pem,server.key} "$at/config"
  [[ ! -e $at/plugins/opensearch-security ]] || return 0
  cp -r "$opensearch_plugin" "$at/plugins/opensearch-security"
  mkdir -p "$at/config/opensearch-security"
  cp "$opensearch_plugin"/config/*.yml "$at/config/opensearch-security"
}

opensearch_start() {
  local name=$1 at=$dir/$1 user
  local -a as=()
  opensearch_files "$name"
  opensearch_config "$name" >"$at/config/opensearch.yml"
  if [[ $(id -u) == 0 ]]; then # it refuses to run as root
    chmod o+x "$dir"
    chown -R nobody:nogroup "$at"
    as=(setpriv --reuid nobody --regid nogroup --clear-groups)
    "${as[@]}" test -r "$at/config/opensearch.yml" || die "user nobody cannot reach $at: choose a DIR that others may enter"
  fi
  chmod 700 "$at/config"
  if [[ $name == opensearch-secure ]]; then
    mkdir -p "$at/secrets"
    for user in admin readall logstash; do (umask 077 && echo "$user" >"$at/secrets/$user"); done
    printf 'OPENSEARCH_SECURE_URL=https://localhost:%s\nOPENSEARCH_SECRETS=%s\nSERVICES_CERTS=%s\n' \
      "$(port "$name")" "$at/secrets" "$dir/certs" >"$at/env"
  else
    echo "OPENSEARCH_URL=http://127.0.0.1:$(port "$name")" >"$at/env"
  fi
  (
    cd "$at" || exit
    export OPENSEARCH_PATH_CONF=$at/config
    spawn "$name" "${as[@]}" java -Xms384m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
      "-Djava.io.tmpdir=$at/tmp" "-Djna.tmpdir=$at/tmp" -Djava.security.manager=allow -Dfile.encoding=UTF-8 \
      -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true -Dlog4j.shutdownHookEnabled=false -Dlog4j2.disable.jmx=true \
      "-Dopensearch.path.home=$at" "-Dopensearch.path.conf=$at/config" -cp "$at/lib/*" org.opensearch.bootstrap.OpenSearch
  )
}

# opensearch_tool NAME PATH [CURL OPTION...]: as the administrator.
opensearch_tool() {
  local name=$1 path=$2
  shift 2
  if [[ $name == opensearch-secure ]]; then
    curl -fsS --cacert "$dir/certs/ca.pem" -u admin:admin "https://localhost:$(port "$name")$path" "$@"
  else
    curl -fsS "http://127.0.0.1:$(port "$name")$path" "$@"
  fi
}

# Not green: one node cannot place the replicas that an index has by default.
opensearch_ready() { opensearch_tool "$1" '/_cluster/health?wait_for_status=yellow&timeout=1s' -m 3 -o /dev/null 2>/dev/null; }
