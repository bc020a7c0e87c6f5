# Shared by the scripts of this project; sourced, never run.
# shellcheck shell=bash disable=SC2034

# The project's folder, whatever folder the caller stands in.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Every script looks for its programs here; su and cron leave the sbin folders out.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || fail "this needs root: it $1."
}

# need_packages PACKAGE...: installs the Debian packages that are missing and says which.
need_packages() {
    local missing=() package
    for package; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "Debian's packages are needed (${missing[*]}), and this system has no apt-get."
    need_root "installs the packages ${missing[*]}"
    say "Installing Debian packages: ${missing[*]}"
    local log
    log=$(mktemp)
    # A machine whose package lists are younger than its mirror answers 404 without the update.
    if ! { apt-get -qq update && apt-get -qq -y --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        fail "could not install ${missing[*]}; apt's whole output is in $log."
    fi
    rm -f "$log"
}

# find_cargo: sets the array `cargo` to the command to use: rustup's where it is installed, else Debian's
# newer compiler (package cargo-web), which is installed where it is missing.
find_cargo() {
    if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/rustup" ]; then
        cargo=("${CARGO_HOME:-$HOME/.cargo}/bin/cargo")
    elif command -v rustup >/dev/null && command -v cargo >/dev/null; then
        cargo=("$(command -v cargo)")
    else
        need_packages cargo-web rustc-web gcc libc6-dev
        cargo=(env RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc /usr/bin/cargo)
    fi
}
