#!/usr/bin/env bash
# Install this node as a system service on Debian 12 or 13 or Raspberry Pi OS, or remove it. A second run changes nothing.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
. "$here/setup.sh"

usage() {
    cat <<'END'
sudo deploy/install.sh [--from WHEEL|CHECKOUT] [--dedicated]
sudo deploy/install.sh --uninstall [--purge]
  --from X      install that wheel or checkout (else the checkout that this script is in)
  --dedicated   this machine is for Grid alone: switch Debian's own Mosquitto off, so that the node's has port 1883
  --uninstall   remove all but /etc/grid and what nobody can make again: keys of a closed network. The books go, too
  --purge       with --uninstall: those keys too
  --root DIR    into or out of that directory, for an image or a test: no apt, no user, nothing is started; needs no root
END
}

root="" from=$(dirname "$here") dedicated="" uninstall="" purge=""
while [ $# -gt 0 ]; do
    case $1 in
        --root | --from)
            [ $# -ge 2 ] || { usage >&2 && exit 2; }
            if [ "$1" = --root ]; then root=$(mkdir -p "$2" && realpath "$2") || exit 2; else from=$(realpath -e "$2") || exit 2; fi
            shift
            ;;
        --dedicated) dedicated=1 ;;
        --uninstall) uninstall=1 ;;
        --purge) purge=1 ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ -z "$purge" ] || [ -n "$uninstall" ] || { usage >&2 && exit 2; }
[ "$root" != / ] || root=""
[ -n "$root" ] || export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # the system's Python, not a user's own

units="grid-mosquitto.service grid.service"
wants=$root/etc/systemd/system/multi-user.target.wants
config=$root/etc/grid/grid.toml
state=$root/var/lib/grid
changed=""
did() { changed=1 && say "$*"; }
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# what is copied: every file of deploy/files but the configuration
files() { (cd "$here/files" && find . -type f ! -path './etc/grid/*' | cut -c3- | sort); }

put() { # put FILE: into the system, if it differs
    cmp -s "$here/files/$1" "$root/$1" && return
    mkdir -p "$root/$(dirname "$1")"
    cp -L "$here/files/$1" "$root/$1.new" && chmod 644 "$root/$1.new" && mv "$root/$1.new" "$root/$1"
    did "wrote /$1"
}

link() { # link NAME TARGET
    [ "$(readlink "$root/$1" || true)" = "$2" ] && return
    mkdir -p "$root/$(dirname "$1")"
    ln -sfn "$2" "$root/$1"
    did "linked /$1"
}

debian_broker() { systemctl is-enabled --quiet mosquitto.service 2>/dev/null || systemctl is-active --quiet mosquitto.service; }

settle_port() { # Debian starts a Mosquitto of its own on 1883 when the package is installed
    [ -z "$root" ] && debian_broker || return 0
    if [ -n "$dedicated" ] || [ -n "$1" ]; then
        systemctl disable --quiet mosquitto.service
        ! live || systemctl stop mosquitto.service
        did "switched Debian's own Mosquitto off: the node runs its own (back: systemctl enable --now mosquitto)"
    elif [ ! -e "$config" ]; then
        port=1884
    elif ! grep -q '^ *port *= *[0-9]' "$config"; then
        say "Debian's own Mosquitto has port 1883, which this node needs: use --dedicated, or set [mqtt] port in $config"
    fi
}

install_grid() {
    local ours="" port="" outcome python file unit
    if [ -z "$root" ]; then
        [ "$(id -u)" -eq 0 ] || { say "This needs root: sudo $0"; exit 1; }
        command -v mosquitto >/dev/null || ours=1
        need_apt mosquitto=mosquitto mosquitto_sub=mosquitto-clients python3=python3 systemd-sysusers=systemd
        [ -z "$ours" ] || did "installed mosquitto"
    fi
    python=$(python_of_grid)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        [ -z "$root" ] || { say "Missing: python3-venv"; exit 1; }
        apt_install python3-venv
    fi
    settle_port "$ours"

    say "Looking at the virtualenv (to make one takes a minute or two) ..."
    outcome=$(cd / && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$(dirname "$here") "$python" -m agent.versions "$from" "$root/opt/grid" /opt/grid)
    [ "$outcome" = same ] || did "installed $(readlink "$root/opt/grid/current") in /opt/grid"
    link usr/local/bin/grid /opt/grid/current/bin/grid

    for file in $(files); do put "$file"; done
    if [ ! -e "$config" ]; then
        mkdir -p "$root/etc/grid"
        install -m 644 "$here/files/etc/grid/grid.toml" "$config.new" # the agent must be able to read it
        if [ -n "$port" ]; then
            sed -i "s/^#port = 1883 *$/port = $port/" "$config.new"
            say "Debian's own Mosquitto stays on port 1883, so that this node's has $port (--dedicated would switch that one off)"
        fi
        mv "$config.new" "$config"
        did "wrote $config: edit it (id, rated_w, meters)"
    fi
    if live; then
        start_all
    else
        for unit in $units; do
            link "${wants#"$root"/}/$unit" "/usr/lib/systemd/system/$unit"
        done
        if [ -z "$root" ]; then
            systemd-sysusers grid.conf
            say "systemd does not run here: the services start at the next boot"
        fi
    fi
    [ -n "$changed" ] || say "Nothing to do: all is as it should be."
}

start_all() {
    local unit
    if [ -n "$changed" ]; then
        systemd-sysusers grid.conf
        systemctl daemon-reload
        systemctl restart systemd-modules-load.service || say "a kernel module for USB adapters is missing: see journalctl -u systemd-modules-load"
        udevadm control --reload 2>/dev/null && udevadm trigger --subsystem-match=gpio --subsystem-match=tty || true
    fi
    for unit in $units; do
        systemctl is-enabled --quiet "$unit" || { systemctl enable --quiet "$unit" && did "enabled $unit"; }
        systemctl is-active --quiet "$unit" || changed=1
    done
    [ -n "$changed" ] || return 0
    systemctl try-restart --no-block grid.service
    # shellcheck disable=SC2086
    systemctl start --no-block $units
    say "started. How is it: sudo grid status; sudo grid doctor; journalctl -u grid -u grid-mosquitto"
}

# trusts: the directories below $state with keys of a closed network, a member's or its authority's: nobody can make them again
trusts() {
    [ ! -d "$state" ] || (cd "$state" && find . -path '*/trust/*' \( -name '*.key' -o -name pending \)) | sed -E 's,^\./(.*/)?trust/.*,\1trust,' | sort -u
}

remove_state() { # all that the node remembers, and its user; without --purge not those, nor whose they are
    local but=()
    [ -n "$purge" ] || [ -z "$(trusts)" ] || but=(! -path '*/trust/*')
    if [ -d "$state" ]; then
        [ -z "$(cd "$state" && find . -depth -mindepth 1 \( -type d -empty -o ! -type d "${but[@]}" \) -delete -print)" ] || changed=1
        ! rmdir "$state" 2>/dev/null || changed=1
    fi
    if [ -z "$root" ] && [ -z "$(trusts)" ] && getent passwd grid >/dev/null; then
        userdel grid && changed=1
    fi
}

uninstall_grid() {
    local file unit
    if [ -z "$root" ]; then
        [ "$(id -u)" -eq 0 ] || { say "This needs root: sudo $0 --uninstall"; exit 1; }
        # shellcheck disable=SC2086
        ! live || systemctl disable --now --quiet $units 2>/dev/null || true
    fi
    for unit in $units; do
        [ ! -L "$wants/$unit" ] || { rm "$wants/$unit" && changed=1; }
    done
    for file in $(files); do
        [ ! -e "$root/$file" ] || { rm "$root/$file" && changed=1; }
    done
    [ ! -L "$root/usr/local/bin/grid" ] || { rm "$root/usr/local/bin/grid" && changed=1; }
    [ ! -e "$root/opt/grid" ] || { rm -r "$root/opt/grid" && changed=1; }
    [ -n "$root" ] || rm -rf /run/grid
    ! live || systemctl daemon-reload
    remove_state
    if [ -n "$root" ]; then # directories that may have been made for us alone
        for file in $(files) usr/local/bin/grid opt/grid "${wants#"$root"/}/x"; do
            (cd "$root" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$file")" 2>/dev/null) || true
        done
    fi
    [ -n "$changed" ] && say "removed Grid." || say "Nothing to do: Grid is not installed."
    [ ! -e "$config" ] || say "left: /etc/grid (your configuration)"
    trusts | while read -r file; do say "left: /var/lib/grid/$file (keys of a closed network), of the user grid; --uninstall --purge removes them"; done
    say "left: the packages mosquitto, mosquitto-clients and python3-venv"
    if live && [ "$(systemctl is-enabled mosquitto.service 2>/dev/null || true)" = disabled ]; then
        say "left: Debian's own Mosquitto is switched off (back: systemctl enable --now mosquitto)"
    fi
}

if [ -n "$uninstall" ]; then uninstall_grid; else install_grid; fi
