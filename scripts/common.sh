# Sourced by the scripts beside it. Not to be run.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.cache/venv"

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    [ $# -lt 2 ] || printf '  fix     %s\n' "$2" >&2
    exit 1
}

# The newest Python that the suite knows comes last: what the machine calls python3 is preferred.
find_python() {
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or later was found" "install one, e.g. apt-get install python3 python3-venv"
}

as_root() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# Debian and Ubuntu ship python3 without ensurepip.
need_venv_module() {
    local python="$1" package
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        return
    fi
    package="$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')"
    as_root || fail "$python cannot make virtual environments" "sudo apt-get install $package"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package" >/dev/null
}

# Runs a command silently; its output is shown only when it fails.
quietly() {
    local log
    log="$(mktemp)"
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "this failed: $*"
    fi
    rm -f "$log"
}

# Programs that tests call: `need_programs patch:patch mkfs.ext4:e2fsprogs` (program:package).
need_programs() {
    local pair program packages=()
    for pair in "$@"; do
        program="${pair%%:*}"
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || packages+=("${pair#*:}")
    done
    [ "${#packages[@]}" -gt 0 ] || return 0
    as_root || fail "missing: ${packages[*]}" "sudo apt-get install ${packages[*]}"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${packages[@]}" >/dev/null
}

# The speed-test server of the benchmarks speaks TLS when OpenSSL's headers are there.
need_openssl_headers() {
    if printf '#include <openssl/ssl.h>\n' | cc -E - >/dev/null 2>&1; then
        return
    fi
    as_root || fail "missing: OpenSSL's headers" "sudo apt-get install libssl-dev"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y libssl-dev >/dev/null
}
