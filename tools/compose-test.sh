#!/usr/bin/env bash
# Starts envoy/docker-compose.yaml, as it is shipped, on a real container engine and runs the demo's checks through it; then the same with
# envoy/docker-compose.redis.yaml and the checks of tools/compose-redis.py. In both, tools/compose-monitoring.py looks at what the profile
# `monitoring` adds: the service and Prometheus. Grafana is left out: where no registry is reached there is nothing to make a stand-in from.
#
# Needs dist/wechat-token.wasm, .tools/envoy and .tools/prometheus (make compose-test sees to them). As root it also installs and starts Docker
# where there is none, in folders of its own; what it started it stops, and what it made in somebody else's Docker it removes. Where no registry
# is reached, stand-ins for the images are made from Debian's base system, Redis, Python and Prometheus and the official Envoy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ENVOY=.tools/envoy/1.40.0/envoy
readonly PROMETHEUS=.tools/prometheus/prometheus
readonly COMPOSE_FILE_SHIPPED=envoy/docker-compose.yaml
readonly COMPOSE_FILE_REDIS=envoy/docker-compose.redis.yaml
readonly PROJECT=wechat-token-test
readonly STATE=$PWD/.tools/docker
# The stand-in for every image; those that are named differently have another name for it.
readonly STAND_IN=wechat-token-stand-in

work=$(mktemp -d)
dockerd_pid=
made_images=()
compose=()
compose_command=()

say() { printf 'compose-test: %s\n' "$*"; }

die() {
    printf 'compose-test: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Waits until a command succeeds: seconds, command.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        read -r -t 0.2 <> <(:) || true
    done
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# Everything that was started ends here, whatever happened before; a failure to clean up hides no other one.
tear_down() {
    local status=$?
    trap - EXIT
    if [[ ${#compose[@]} -gt 0 ]]; then
        if [[ $status -ne 0 ]]; then
            "${compose[@]}" logs --tail 40 || true
        fi
        "${compose[@]}" --profile monitoring down --volumes --timeout 2 >"$work/down.log" 2>&1 || cat "$work/down.log" >&2
    fi
    if [[ ${#made_images[@]} -gt 0 && -z $dockerd_pid ]]; then
        docker image rm "${made_images[@]}" >/dev/null || true
    fi
    if [[ -n $dockerd_pid ]]; then
        kill "$dockerd_pid" 2>/dev/null || true
        wait_for 30 gone "$dockerd_pid" || kill -9 "$dockerd_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_package() {
    local command=$1 package=$2
    has "$command" && return
    has apt-get || die "$command is missing: install it with your system's packages (Debian and Ubuntu call the package $package)"
    [[ $EUID -eq 0 ]] || die "$command is missing: run 'sudo apt-get install $package'"
    say "apt-get install $package"
    {
        apt-get update || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"
    } >"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; }
    has "$command" || die "$command could not be installed: run 'apt-get install $package'"
}

need_docker() {
    if has docker && docker info >/dev/null 2>&1; then
        return
    fi
    [[ $EUID -eq 0 ]] || die "no Docker answers: start it, or run this as root"
    need_package dockerd docker.io
    # The package may have started it.
    docker info >/dev/null 2>&1 && return
    say "starting dockerd"
    mkdir -p "$STATE"
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$STATE" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --bridge none \
        >"$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    wait_for 60 docker info || { tail -n 20 "$work/dockerd.log" >&2 && die "dockerd does not start: see above"; }
}

need_compose() {
    compose_command=(docker compose)
    if ! docker compose version >/dev/null 2>&1; then
        need_package docker-compose docker-compose
        compose_command=(docker-compose)
    fi
}

# From now on it is about this compose file: with its images there, started.
start() {
    local file=$1 image
    compose=("${compose_command[@]}" --project-name "$PROJECT" --file "$file")
    for image in $("${compose[@]}" --profile monitoring config | sed -n 's/^ *image: //p' | grep --invert-match '^grafana/' | sort -u); do
        need_image "$image"
    done
    say "starting $file"
    # What an interrupted run left.
    stop || true
    "${compose[@]}" up --detach >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2 && die "the compose file does not start: see above"; }
}

# The service and Prometheus, on top of what runs: its Envoys.
monitor() {
    "${compose[@]}" --profile monitoring up --detach service prometheus >"$work/up.log" 2>&1 ||
        { cat "$work/up.log" >&2 && die "the profile monitoring does not start: see above"; }
    tools/compose-monitoring.py "http://127.0.0.1:$PROMETHEUS_PORT" "$@"
    "${compose[@]}" logs --no-color service >"$work/service.log" 2>&1
    grep -q "200 {'ip_list'" "$work/service.log" || { cat "$work/service.log" >&2 && die "the service got no answer of WeChat's"; }
}

# With the profile, whose containers are left behind otherwise.
stop() { "${compose[@]}" --profile monitoring down --volumes --timeout 2 >"$work/down.log" 2>&1; }

# A command of the compose file as one word for a shell.
compose_word() { printf '%q ' "${compose[@]}" "$@" && printf '>/dev/null 2>&1'; }

# A secret must be in no Envoy's log.
keep_secret() {
    local service=$1 secret=$2
    "${compose[@]}" logs --no-color "$service" >"$work/envoy.log" 2>&1
    ! grep -q "$secret" "$work/envoy.log" || die "a secret is in Envoy's log"
}

# Pulls an image or, where no registry is reached, makes one that has the same program in the same place.
need_image() {
    local image=$1
    docker image inspect "$image" >/dev/null 2>&1 && return
    if timeout 120 docker pull --quiet "$image" >"$work/pull.log" 2>&1; then
        return
    fi
    say "no registry gives $image ($(tail -n 1 "$work/pull.log" | cut -c1-100)): making a stand-in"
    need_stand_in
    if [[ $image == prom/prometheus:* ]]; then
        # The only one whose entry point the compose file relies on.
        printf 'FROM %s\nENTRYPOINT ["/bin/prometheus"]\n' "$STAND_IN" | docker build --quiet --tag "$image" - >"$work/build.log" 2>&1 ||
            { cat "$work/build.log" >&2 && die "the stand-in for $image cannot be made: see above"; }
    else
        docker tag "$STAND_IN" "$image"
    fi
    made_images+=("$image")
}

# One system that has all the programs, as it takes half a minute to make.
need_stand_in() {
    local root=$work/root suite
    docker image inspect "$STAND_IN" >/dev/null 2>&1 && return
    [[ $EUID -eq 0 ]] || die "a stand-in needs debootstrap as root: pull the image where a registry is reached, or run this as root"
    need_package debootstrap debootstrap
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=ca-certificates,redis-server,python3 "$suite" "$root" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2 && die "debootstrap failed: see above"; }
    install -m 755 "$ENVOY" "$root/usr/local/bin/envoy"
    install -m 755 "$PROMETHEUS" "$root/bin/prometheus"
    tar -C "$root" -c . | docker import - "$STAND_IN" >/dev/null
    made_images+=("$STAND_IN")
    rm -rf "$root"
}

# The port, or a free one where it is taken.
port() {
    python3 - "$1" <<'PYTHON'
import socket, sys
for port in (int(sys.argv[1]), 0):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(listener.getsockname()[1])
        break
PYTHON
}

[[ -f dist/wechat-token.wasm ]] || die "dist/wechat-token.wasm is missing: run 'make build'"
[[ -x $ENVOY ]] || die "$ENVOY is missing: run 'tools/setup.sh test'"
[[ -x $PROMETHEUS ]] || die "$PROMETHEUS is missing: run 'tools/setup.sh prometheus'"
tools/build-fake-wechat.sh
cargo build --quiet --locked --release --package support --bin demo

need_docker
need_compose

# Variables of the compose file.
WECHAT_PORT=$(port 10000)
METRICS_PORT=$(port 9902)
CONTROL_PORT=$(port 8081)
SECOND_WECHAT_PORT=$(port 10010)
PROMETHEUS_PORT=$(port 9090)
export WECHAT_PORT METRICS_PORT CONTROL_PORT SECOND_WECHAT_PORT PROMETHEUS_PORT
start "$COMPOSE_FILE_SHIPPED"

"${CARGO_TARGET_DIR:-target}/release/demo" \
    --against "http://127.0.0.1:$WECHAT_PORT" --control "http://127.0.0.1:$CONTROL_PORT" \
    --admin "http://127.0.0.1:$METRICS_PORT" \
    --restart "$(compose_word restart --timeout 1 envoy)"

keep_secret envoy the-secret-of-the-demo
grep -q '"GET /cgi-bin/get_api_domain_ip HTTP/1.1" 200' "$work/envoy.log" || die "no access log, or not with the caller's path"
monitor envoy
say "all checks held through $COMPOSE_FILE_SHIPPED"
stop

start "$COMPOSE_FILE_REDIS"
tools/compose-redis.py "http://127.0.0.1:$WECHAT_PORT" "http://127.0.0.1:$SECOND_WECHAT_PORT" "http://127.0.0.1:$CONTROL_PORT" \
    "$(compose_word stop --timeout 1 redis)" "$(compose_word start redis)"
monitor envoy second-envoy
for service in envoy second-envoy; do
    for secret in the-secret-of-the-demo the-password-of-the-demo; do
        keep_secret "$service" "$secret"
    done
done
say "all checks held through $COMPOSE_FILE_REDIS"
