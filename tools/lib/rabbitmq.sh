# shellcheck shell=bash disable=SC2154 # dir: set by `services`
# RabbitMQ from apt, with Erlang's port mapper beside it (rabbitmq-epmd): both on loopback, all files in DIR/rabbitmq.
#   guest (guest) may do all; shipper (shipper-secret) too, on the virtual host /

rabbitmq_install() { need rabbitmq-server iproute2; }

# What the server and its tools both want to hear, into rabbitmq_vars.
rabbitmq_environment() {
  local at=$dir/rabbitmq bind='-kernel inet_dist_use_interface {127,0,0,1}'
  rabbitmq_vars=(
    HOME="$at" # the cookie is made there
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$(port rabbitmq.epmd)"
    RABBITMQ_NODENAME="shipper$(port rabbitmq)@127.0.0.1" RABBITMQ_USE_LONGNAME=true # no name is looked up
    RABBITMQ_DIST_PORT="$(port rabbitmq.dist)"
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$bind +S 2:2 +sbwt none" RABBITMQ_CTL_ERL_ARGS="$bind"
    RABBITMQ_CONF_ENV_FILE="$at/none" RABBITMQ_CONFIG_FILE="$at/rabbitmq.conf"
    RABBITMQ_ENABLED_PLUGINS_FILE="$at/plugins" RABBITMQ_FEATURE_FLAGS_FILE="$at/feature_flags"
    RABBITMQ_GENERATED_CONFIG_DIR="$at/generated" RABBITMQ_MNESIA_BASE="$at/mnesia" RABBITMQ_MNESIA_DIR="$at/mnesia/node"
    RABBITMQ_PID_FILE="$at/server.pid" RABBITMQ_LOG_BASE="$at" RABBITMQ_LOGS=-
    RUNNING_UNDER_SYSTEMD=true # the script becomes the virtual machine, and is not its parent
  )
}

rabbitmq_start() {
  local at=$dir/rabbitmq
  local -a rabbitmq_vars
  [[ $1 == rabbitmq ]] || return 0 # the mapper comes with the server
  rabbitmq_environment
  certs
  # Ours and in the foreground: else the server starts one for everybody, on all addresses, and nobody ends it.
  mkdir -p "$dir/rabbitmq-epmd"
  alive rabbitmq-epmd || spawn rabbitmq-epmd env ERL_EPMD_ADDRESS=127.0.0.1 epmd -port "$(port rabbitmq.epmd)"
  cat >"$at/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$(port rabbitmq)
listeners.ssl.default = 127.0.0.1:$(port rabbitmq.tls)
ssl_options.cacertfile = $dir/certs/ca.pem
ssl_options.certfile = $dir/certs/server.pem
ssl_options.keyfile = $dir/certs/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 512MB
log.console = true
log.console.level = warning
CONF
  echo '[].' >"$at/plugins"
  (umask 077 && echo shipper-secret >"$at/password")
  cat >"$at/env" <<ENV
RABBITMQ_URL=amqp://127.0.0.1:$(port rabbitmq)/%2f
RABBITMQ_PASSWORD_FILE=$at/password
RABBITMQ_TLS_URL=amqps://localhost:$(port rabbitmq.tls)/%2f
RABBITMQ_CERTS=$dir/certs
ENV
  # The start script itself: Debian's wrapper in sbin changes the user and the folder.
  spawn rabbitmq env "${rabbitmq_vars[@]}" /usr/lib/rabbitmq/bin/rabbitmq-server
}

# Up, awaited, and with the user of the tests.
rabbitmq_ready() {
  [[ $1 == rabbitmq ]] || return 0
  listening "$(port rabbitmq)" && rabbitmq_tool rabbitmq await_startup >/dev/null 2>&1 || return 1
  [[ $(rabbitmq_tool rabbitmq list_users -q 2>/dev/null) != *shipper* ]] || return 0
  rabbitmq_tool rabbitmq add_user shipper shipper-secret >/dev/null 2>&1 &&
    rabbitmq_tool rabbitmq set_permissions shipper '.*' '.*' '.*' >/dev/null 2>&1
}

rabbitmq_tool() {
  local -a rabbitmq_vars
  shift
  rabbitmq_environment
  env "${rabbitmq_vars[@]}" /usr/lib/rabbitmq/bin/rabbitmqctl "$@"
}
