# shellcheck shell=bash disable=SC2154 # dir, cache, lib: set by `services`
# Apache Kafka in KRaft mode, run from Maven artifacts: there is no package of it in Debian.
#   kafka       one node, plaintext, no authorizer; kafka-paused and kafka-scan are others like it
#   kafka-tls   one node: plaintext for the administrator, SSL with client certificates, SASL_SSL
#               with SCRAM-SHA-512 and PLAIN; ACLs on, nothing allowed until a test allows it

KAFKA_VERSION=${KAFKA_VERSION:-4.3.1}
kafka_jvm=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.awt.headless=true -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)

# The jars, resolved once into the cache: a folder that is renamed when it is complete.
kafka_install() {
  local to=$cache/kafka-$KAFKA_VERSION part log
  need iproute2 openssl
  command -v java >/dev/null || need default-jre-headless
  [[ ! -e $to/.complete ]] || return 0
  command -v mvn >/dev/null || need maven
  say "resolving Kafka $KAFKA_VERSION with Maven (45 MB, once)"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/.part.XXXXXX")
  log=$dir/mvn.log
  mvn -B -q -ntp org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies -f "$lib/kafka.pom.xml" \
    "-Dversion.run=$KAFKA_VERSION" -DincludeScope=runtime "-DoutputDirectory=$part" >"$log" 2>&1 </dev/null ||
    { tail -n 5 "$log" >&2; rm -rf "$part"; die "Maven could not resolve Kafka $KAFKA_VERSION, see $log"; }
  touch "$part/.complete"
  rm -rf "$to"
  chmod 755 "$part"
  mv "$part" "$to"
}

kafka_class_path() { local jar; for jar in "$cache/kafka-$KAFKA_VERSION"/*.jar; do printf '%s:' "$jar"; done; }

kafka_config() {
  local name=$1 ctl plain
  plain=$(port "$name")
  ctl=$(port "$name.controller")
  local listeners=PLAINTEXT://127.0.0.1:$plain
  [[ $name != kafka-tls ]] || listeners+=,SSL://127.0.0.1:$(port kafka-tls.ssl),SASL_SSL://127.0.0.1:$(port kafka-tls.sasl)
  cat <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$ctl
controller.listener.names=CONTROLLER
listeners=$listeners,CONTROLLER://127.0.0.1:$ctl
advertised.listeners=$listeners
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/$name/data
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A killed broker may come back only when its old session has run out (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
EOF
  [[ $name == kafka-tls ]] || return 0
  cat <<EOF
ssl.keystore.type=PEM
ssl.keystore.location=$dir/certs/server.bundle.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/certs/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.ssl.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*\$/\$1/,DEFAULT
listener.name.sasl_ssl.ssl.client.auth=none
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-secret" user_bob="bob-secret";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
EOF
}

kafka_start() {
  local name=$1 at=$dir/$1 cp
  cp=$(kafka_class_path)
  [[ $name != kafka-tls ]] || certs
  kafka_config "$name" >"$at/server.properties"
  if [[ ! -e $at/data/meta.properties ]]; then
    local -a scram=()
    [[ $name != kafka-tls ]] || scram=(--add-scram 'SCRAM-SHA-512=[name=admin,password=admin-secret]'
      --add-scram 'SCRAM-SHA-512=[name=alice,password=alice-secret]' --add-scram 'SCRAM-SHA-512=[name=bob,password=bob-secret]')
    java -Xmx128m "${kafka_jvm[@]}" -cp "$cp" kafka.tools.StorageTool format -t c2hpcHBlci10ZXN0LWNsdQ \
      -c "$at/server.properties" "${scram[@]}" >"$at/format.log" 2>&1 || { tail "$at/format.log" >&2; die "kafka: format failed"; }
  fi
  {
    case $name in
      kafka) echo "KAFKA_BROKERS=127.0.0.1:$(port kafka)" ;;
      kafka-paused) echo "KAFKA_PAUSED_BROKERS=127.0.0.1:$(port kafka-paused)" ;;
      kafka-scan) echo "KAFKA_SCAN_BROKERS=127.0.0.1:$(port kafka-scan)" ;;
      kafka-tls)
        echo "KAFKA_TLS_ADMIN_BROKERS=127.0.0.1:$(port kafka-tls)"
        echo "KAFKA_TLS_BROKERS=127.0.0.1:$(port kafka-tls.ssl)"
        echo "KAFKA_SASL_BROKERS=127.0.0.1:$(port kafka-tls.sasl)"
        echo "SERVICES_CERTS=$dir/certs"
        ;;
    esac
  } >"$at/env"
  spawn "$name" java -Xms128m -Xmx384m "${kafka_jvm[@]}" -cp "$cp" kafka.Kafka "$at/server.properties"
}

# The client port opens only once the broker is unfenced, so an open port is a ready broker.
kafka_ready() { listening "$(port "$1")"; }

kafka_tool() {
  local name=$1 tool=${2:-} class
  shift 2
  case $tool in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    quorum) class=org.apache.kafka.tools.MetadataQuorumCommand ;;
    *) die "tool $name topics|acls|offsets|groups|configs|quorum ..." ;;
  esac
  java -Xmx128m "${kafka_jvm[@]}" -cp "$(kafka_class_path)" "$class" --bootstrap-server "127.0.0.1:$(port "$name")" "$@"
}
