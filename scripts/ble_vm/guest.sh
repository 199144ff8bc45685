# The guest's second script, its process 1: start BlueZ on the adapter, then run what the host asks for.
#
# The host asks over a virtio port, a line at a time; commands and their output are files in the share.
#     hello  ->  time SECONDS, the host's clock; then, when BlueZ serves the adapter: up
#     run NUMBER           sh NUMBER.sh, its output to NUMBER.out and NUMBER.err  ->  done NUMBER CODE
#     kill NUMBER SIGNAL   to the command and its children
# When the port closes, the host is gone, and the guest goes too.
share=/run/share
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8 HOME=/root
cd /

off() {
    echo "guest: $*"
    echo o >/proc/sysrq-trigger
    while :; do sleep 1; done
}

port=$(echo /dev/vport*p1)
[ -c "$port" ] && exec 3<>"$port" || off "no port to the host"
echo hello >&3
read -r word seconds <&3 && [ "$word" = time ] || off "the host said nothing"
date -s "@$seconds" >/dev/null

cat "$share/name" >/proc/sys/kernel/hostname

# Without systemd, asking for a service that is not running must fail, and no module can be fetched.
rm -f /usr/share/dbus-1/system-services/org.bluez.service
echo >/proc/sys/kernel/modprobe
mkdir -p /run/dbus
dbus-daemon --system --fork 3>&- || off "no system bus"
btattach -B /dev/ttyS1 -P h4 >"$share/btattach.log" 2>&1 3>&- &
tries=0
until [ -e /sys/class/bluetooth/hci0 ]; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || off "no adapter: $(cat "$share/btattach.log")"
    sleep 0.1
done
bluetoothd=/usr/libexec/bluetooth/bluetoothd
[ -x $bluetoothd ] || bluetoothd=/usr/lib/bluetooth/bluetoothd
# shellcheck disable=SC2086 # options are words
$bluetoothd -n $(cat "$share/bluetoothd.options") >"$share/bluetoothd.log" 2>&1 3>&- &
daemon=$!

adapter() {
    dbus-send --system --print-reply --dest=org.bluez /org/bluez/hci0 org.freedesktop.DBus.Properties.GetAll \
        string:"$1" 2>&1
}
tries=0
until adapter org.bluez.LEAdvertisingManager1 | grep -q SupportedInstances &&
    adapter org.bluez.Adapter1 | grep -A1 '"Powered"' | grep -q true; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] && kill -0 $daemon || off "BlueZ does not serve the adapter: $(cat "$share/bluetoothd.log")"
    sleep 0.1
done

run() {
    # A session of its own, so that a signal reaches its children too.
    setsid sh "$share/$1.sh" >"$share/$1.out" 2>"$share/$1.err" </dev/null 3>&- &
    echo $! >"$share/$1.pid"
    wait $!
    echo "done $1 $?" >&3
}

echo up >&3
while read -r word number signal <&3; do
    case $word in
    run) run "$number" & ;;
    kill)
        # Its session may only be about to begin.
        until [ -s "$share/$number.pid" ]; do sleep 0.05; done
        kill -s "$signal" -- "-$(cat "$share/$number.pid")"
        ;;
    esac
done
off "the host is gone"
