#!/bin/busybox sh
# The guest's first script, in the initramfs: load the modules, make the host's files the root, go on there.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in /modules/*; do
    insmod "$module" 2>/dev/null || echo "not loaded: $module"
done

# The host's / read-only, with the guest's own writing on top of it, in memory.
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /host || exec poweroff -f
mount -t tmpfs none /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work none /root || exec poweroff -f

mount -t proc none /root/proc
mount -t sysfs none /root/sys
mount -t devtmpfs none /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts none /root/dev/pts
mount -t tmpfs none /root/dev/shm
mount -t tmpfs none /root/run
mkdir -p /root/run/lock /root/var/lib/bluetooth
mount -t tmpfs none /root/var/lib/bluetooth
# Not cached: host and guest write and read here in turn.
mkdir /root/run/share
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=512000 share /root/run/share || exec poweroff -f

# QEMU's user network, whose 10.0.2.2 is the host's 127.0.0.1.
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2

exec chroot /root /bin/sh /run/share/guest.sh
