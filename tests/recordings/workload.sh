# What the recordings here hold: run by scripts/make-recordings in a VM, below st-probe.
# 6.12-arm64.raw was made so by hand, in an emulated machine of that kind.
# no-snapshot.raw and no-processes.raw are of earlier st-probes, on Linux 6.1.
mkdir -p /srv/www/cache /srv/log
cd /srv
echo hello >www/index.html
chmod 640 www/index.html
mv www/index.html www/old.html
ln www/old.html log/hard
ln -s ../www/old.html log/soft
mkfifo log/pipe
mknod log/null c 1 3
mkdir www/cache/a
echo 1 >www/cache/a/1
mv www/cache/a www/cache/b
rm -r www/cache/b
chown 1:2 www/old.html
chmod 4755 www/old.html
chown 3 www/old.html
touch "$(printf 'log/two words\n\033[31m\377')"
mkdir -p /srv/1/2/3/4/5/6/7/8/9/10/11/12
touch /srv/1/2/3/4/5/6/7/8/9/10/11/12/deep
rm www/old.html log/hard log/soft
mkdir /srv/ram
mount -t tmpfs ram /srv/ram
touch /srv/ram/in-memory
umount /srv/ram
cat /no/such/file 2>/dev/null
mkdir /srv 2>/dev/null
nc -l -p 8080 >/dev/null &
until grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done
echo GET | nc 127.0.0.1 8080
nc ::1 9 2>/dev/null
wait
sh -c 'exit 3'
sh -c 'kill -9 $$'
container=/sys/fs/cgroup/docker-$(printf %064d 7).scope
mkdir "$container"
sh -c 'echo $$ >"$1/cgroup.procs"; exec touch /srv/log/contained' sh "$container"
