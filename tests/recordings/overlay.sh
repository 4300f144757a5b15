# Makes overlay.raw, on its standard output: run by scripts/make-recordings in a VM.
mkdir /srv
mount -t tmpfs layers /srv
cd /srv || exit
mkdir lower upper work merged lower/etc
echo old >lower/etc/conf
echo old >lower/etc/gone
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged
cd merged || exit
events=create,mkdir,mknod,delete,rmdir,rename,attrib,symlink,link
exec st-probe --event $events --snapshot /srv -- sh -c '
    echo new >new
    # No file is made here, so what is made then is no part of that.
    : >>new
    mkdir ../beside
    chmod 600 etc/conf
    rm etc/gone
    mkdir dir
    rmdir etc 2>/dev/null
    mv new dir/new
    rm -r dir'
