#!/usr/bin/env bash
# Runs one neighbour in place of this shell: tests/interop/neighbours/run.sh NAME. Its settings are NEIGHBOUR_* variables, see the README.
set -euo pipefail
built=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)/.tools/interop

case ${1-} in
    # It is the start that costs, and the machine is small: only the quick compiler, no parallel collector.
    seed | wxjava-redis | wxjava-redisson)
        exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -jar "$built/java/neighbours.jar" --kind "$1"
        ;;
    silenceper) exec "$built/go/neighbour" ;;
    wechatpy) exec "$built/python/bin/python" "$built/python/neighbour.py" ;;
    wechatpy-2) PYTHONPATH=$built/python/wechatpy-2 exec "$built/python/bin/python" "$built/python/neighbour.py" ;;
    easywechat) exec node "$built/node/neighbour.js" ;;
    *)
        echo "run.sh: one of seed wxjava-redis wxjava-redisson silenceper wechatpy wechatpy-2 easywechat" >&2
        exit 2
        ;;
esac
