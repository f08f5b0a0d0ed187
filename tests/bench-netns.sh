#!/bin/sh
# Measures a relay: three nodes A - relay - C in three network namespaces, joined by
# two veth pairs, on whatever processors this machine has. Prints one row; where iperf3 is
# installed, one for a TCP connection through a forwarded port; where yggdrasil is too, one for
# that between the same namespaces; and a line for 1,000 connections through one forwarded port.
# In MODE=payment_gated the connections are paid for, with play money.
#
#   tests/bench-netns.sh [SECONDS]        default 5, for each of the loads
#
# BIN names another binary than the release build of this tree; PROTOCOL=bitcoin and
# MODE=payment_gated measure valid Bitcoin messages instead of raw data in mode open.
# Needs root (namespaces). Everything that it makes is gone when it ends.
set -eu

seconds=${1:-5}
mode=${MODE:-open}
protocol=${PROTOCOL:-raw}
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${BIN:-}" ]; then
    (cd "$here" && cargo build --release --quiet -p blvm-mesh)
    BIN=$here/target/release/blvm-mesh
fi
[ "$(id -u)" = 0 ] || { echo "bench-netns: needs root, for network namespaces" >&2; exit 2; }

dir=$(mktemp -d)
tag=blvm$$
pids=
stop() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    pids=
}
cleanup() {
    stop
    for node in a r c; do ip netns del "$tag$node" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

for node in a r c; do
    ip netns add "$tag$node"
    ip -n "$tag$node" link set lo up
done
join() { # namespace address namespace address
    ip link add name "$tag-l" netns "$1" type veth peer name "$tag-r" netns "$3"
    ip -n "$1" link set "$tag-l" name "to$3" && ip -n "$3" link set "$tag-r" name "to$1"
    ip -n "$1" addr add "$2/30" dev "to$3" && ip -n "$3" addr add "$4/30" dev "to$1"
    ip -n "$1" link set "to$3" up && ip -n "$3" link set "to$1" up
}
join "${tag}a" 10.83.38.1 "${tag}r" 10.83.38.2
join "${tag}c" 10.83.38.5 "${tag}r" 10.83.38.6

field() { # NAME, of the JSON on standard input
    sed -n "s/.*\"$1\": *\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" | head -n 1
}
start() { # namespace name options...
    space=$1 name=$2
    shift 2
    ip netns exec "$space" "$BIN" --json --data-dir "$dir/$name" \
        --set limits.free_rate=10000000000 --set limits.free_burst=10000000000 \
        --set limits.plain_rate=10000000000 --set limits.plain_burst=10000000000 \
        --set bench.sink=true --set issuer_key=issuer.key \
        --set budget.max_msat_per_payment=1000000000000000 --set budget.max_msat_per_hour=1000000000000000 \
        --set budget.max_msat_per_day=1000000000000000 --set budget.max_msat_per_destination_day=1000000000000000 run --network regtest --mode "$mode" --log warn "$@" \
        >"$dir/$name.out" 2>"$dir/$name.log" &
    started=$!
    pids="$pids $started"
    for _ in $(seq 100); do
        [ -s "$dir/$name.out" ] && break
        sleep 0.05
    done
    [ -s "$dir/$name.out" ] || { cat "$dir/$name.log" >&2; exit 1; }
    key=$(field public_key <"$dir/$name.out")
}
start "${tag}r" relay --listen-addr 0.0.0.0:8338
relay=$started relay_key=$key
start "${tag}c" c --listen-addr "" --peer "$relay_key@10.83.38.6:8338"
c_key=$key
start "${tag}a" a --listen-addr "" --peer "$relay_key@10.83.38.2:8338"
ask() { timeout 60 "$BIN" --json --data-dir "$dir/a" "$@"; }
for _ in $(seq 100); do
    ask find-route "$c_key" >/dev/null 2>&1 && break
    sleep 0.1
done
ask find-route "$c_key" >/dev/null

measure() { # destination bytes window milliseconds
    ask bench start "$1" --protocol "$protocol" --bytes "$2" --window "$3" --duration-ms "$4" \
        >"$dir/trial" || { cat "$dir/trial" >&2; exit 1; }
    cat "$dir/trial"
}
tick=$(getconf CLK_TCK)
cpu() { # process: seconds of processor time that it has used
    sed 's/.*) //' "/proc/$1/stat" | awk -v tick="$tick" '{ print ($12 + $13) / tick }'
}
window=786432
before=$(cpu "$relay")
middle=$(measure "$c_key" 1400 $window "${seconds}000")
after=$(cpu "$relay")
large=$(measure "$c_key" 65536 4194304 "${seconds}000")
small=$(measure "$c_key" 100 $window "${seconds}000")
memory=$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/$relay/status")
far=$(measure "$c_key" 100 0 2000)
near=$(measure "$relay_key" 100 0 2000)

get() { printf '%s' "$1" | field "$2"; }
awk -v m="$(get "$middle" goodput_mbit)" -v l="$(get "$large" goodput_mbit)" \
    -v s="$(get "$small" packets_per_second)" -v loss="$(get "$middle" loss)" \
    -v far="$(get "$far" rtt_p50_us)" -v near="$(get "$near" rtt_p50_us)" \
    -v bytes="$(get "$middle" bytes)" -v cpu="$after" -v before="$before" \
    -v memory="$memory" -v what="$mode, $protocol, $(nproc) cores" 'BEGIN {
    print "| A - relay - C (" what ") | Mbit/s, 1400 B | Mbit/s, 64 KiB |" \
        " packets/s, 100 B | loss | added round trip, us | relay CPU s/GB | relay MiB |"
    print "|---|---|---|---|---|---|---|---|"
    printf "| blvm-mesh | %.0f | %.0f | %.0f | %.4f %% | %d | %.2f | %.1f |\n", \
        m, l, s, loss * 100, far - near, (cpu - before) / bytes * 1e9, memory
}'

# One TCP connection through a forwarded port.
row() { # name relay before after: of the trial
    received=$(sed -n '/"sum_received"/,/}/p' "$dir/trial")
    [ "$(get "$received" bytes)" != 0 ] || { echo "bench-netns: $1 carried nothing" >&2; exit 1; }
    awk -v name="$1" -v rate="$(get "$received" bits_per_second)" \
        -v bytes="$(get "$received" bytes)" -v before="$3" -v cpu="$4" \
        -v memory="$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/$2/status")" 'BEGIN {
        printf "| %s | %.0f | | | | | %.2f | %.1f |\n", \
            name, rate / 1e6, (cpu - before) / bytes * 1e9, memory
    }'
}
if command -v iperf3 >/dev/null; then
    ip netns exec "${tag}c" iperf3 -s -B 127.0.0.1 >"$dir/iperf3-forward.log" 2>&1 &
    pids="$pids $!"
    "$BIN" --json --data-dir "$dir/c" expose 5201 --as iperf3 >/dev/null
    ask forward 5201 "$c_key:iperf3" --max-msat 1000000000000000 >/dev/null
    before=$(cpu "$relay")
    ip netns exec "${tag}a" iperf3 --json -c 127.0.0.1 -t "$seconds" >"$dir/trial" ||
        { cat "$dir/trial" >&2; exit 1; }
    row "blvm-mesh, TCP by forward" "$relay" "$before" "$(cpu "$relay")"
fi

# Many connections at once: streams of one flow, each of which sends and reads back as much.
streams=1000
# Two descriptors for each, at both ends.
if python3 -c 'import asyncio; asyncio.timeout' 2>/dev/null && ulimit -n 8192 2>/dev/null; then
    ip netns exec "${tag}c" python3 "$here/tests/streams.py" serve 5202 >"$dir/echo.log" 2>&1 &
    pids="$pids $!"
    "$BIN" --json --data-dir "$dir/c" expose 5202 --as echo >/dev/null
    ask forward 5202 "$c_key:echo" --max-msat 1000000000000000 >/dev/null
    before=$(cpu "$relay")
    ip netns exec "${tag}a" python3 "$here/tests/streams.py" call 5202 $streams 65536 >"$dir/trial" ||
        { cat "$dir/trial" >&2; exit 1; }
    printf '%s connections at once through one forwarded port: ' "$streams"
    printf '%s s until all were open, 64 KiB over each and back in %s s (the first after %s s), ' \
        "$(field opening_s <"$dir/trial")" "$(field total_s <"$dir/trial")" \
        "$(field first_s <"$dir/trial")"
    printf '%s Mbit/s in both directions, relay CPU %s s\n' "$(field mbit <"$dir/trial")" \
        "$(awk -v a="$before" -v b="$(cpu "$relay")" 'BEGIN { printf "%.2f", b - a }')"
    # A byte and back, beside an echo server without anything between.
    ip netns exec "${tag}a" python3 "$here/tests/streams.py" serve 5203 >"$dir/near.log" 2>&1 &
    pids="$pids $!"
    sleep 1
    for port in 5202 5203; do
        ip netns exec "${tag}a" python3 "$here/tests/streams.py" ping "$port" 2000 >"$dir/ping$port" ||
            { cat "$dir/ping$port" >&2; exit 1; }
    done
    printf 'A byte over the forwarded port and back: %s us, of which the same server by itself %s us\n' \
        "$(field rtt_p50_us <"$dir/ping5202")" "$(field rtt_p50_us <"$dir/ping5203")"
fi

# The same for yggdrasil, with one TCP connection over its tunnel.
for program in yggdrasil iperf3; do
    command -v "$program" >/dev/null ||
        { echo "bench-netns: no row of yggdrasil: no $program here" >&2; exit 0; }
done
stop
peer() { # node, and as JSON what it listens on or dials
    yggdrasil -genconf -json | sed -e '/^  "\(Peers\|Listen\|IfName\|AdminListen\)"/d' \
        -e '/^  "MulticastInterfaces"/,/^  \]/d' \
        -e "1a \"AdminListen\": \"none\", \"IfName\": \"ygg0\", \"MulticastInterfaces\": [], $2," \
        >"$dir/$1.conf"
    ip netns exec "$tag$1" yggdrasil -useconffile "$dir/$1.conf" >"$dir/$1.log" 2>&1 &
    started=$!
    pids="$pids $started"
}
peer r '"Listen": ["tcp://0.0.0.0:8338"]'
relay=$started
peer c '"Peers": ["tcp://10.83.38.6:8338"]'
peer a '"Peers": ["tcp://10.83.38.2:8338"]'
ip netns exec "${tag}c" iperf3 -s >"$dir/iperf3.log" 2>&1 &
pids="$pids $!"
c=$(yggdrasil -useconffile "$dir/c.conf" -address)
stream() { ip netns exec "${tag}a" iperf3 --json -c "$c" -t "$1" >"$dir/trial"; }
for _ in $(seq 20); do
    stream 1 && break
    sleep 0.5
done
before=$(cpu "$relay")
stream "$seconds" || { cat "$dir/trial" >&2; exit 1; }
row "yggdrasil, TCP" "$relay" "$before" "$(cpu "$relay")"
